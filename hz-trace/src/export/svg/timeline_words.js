// Saying: what is under the pointer, in lines of text.

/** A moment, named so that ticks `step` apart differ, in a unit of which it is less than `most`. */
function tickLabel(time, step, most = 1e4) {
  if (time === 0) return '0';
  let unit = step < 1e3 ? 0 : step < 1e6 ? 1 : step < 1e9 ? 2 : 3;
  while (unit < 3 && time / Math.pow(1e3, unit) >= most) unit++;
  const size = Math.pow(1e3, unit);
  let places = 0;
  while (places < 9 && step % (size / Math.pow(10, places)) !== 0) places++;
  return (time / size).toFixed(places) + ' ' + ['ns', 'µs', 'ms', 's'][unit];
}

function percent(share) { return share > 0 && share < 0.01 ? '<1 %' : Math.round(share * 100) + ' %'; }

function actorName(actor) {
  const [tid, , name] = data.actors[actor];
  return tid === 0 ? name : `${name} (tid ${tid})`;
}

/** With both ids, or one if they are the same. */
function runnerName(actor) {
  const [tid, pid, name] = data.actors[actor];
  if (tid === 0) return name;
  return actor === 0 || tid === pid ? culpritName(actor, 0) : `${name} (pid ${pid}, tid ${tid})`;
}

/** Of the same process by its thread, of another by its process. */
function culpritName(actor, victim) {
  const [tid, pid, name] = data.actors[actor];
  if (tid === 0) return name;
  return actor === 0 || pid === data.actors[victim][1] ? actorName(actor) : `${name} (pid ${pid})`;
}

function wakerWords(waker) {
  if (waker === HARD_IRQ) return 'woken by a hardware interrupt';
  if (waker === SOFT_IRQ) return 'woken by a software interrupt';
  return waker === NO_WAKER ? 'woken' : `woken by ${actorName(waker - FIRST_WAKER)}`;
}

function whenWords(start, end, view) {
  const step = Math.max(Math.pow(10, Math.floor(Math.log10(Math.max(view.columnNs, 1)))), 1);
  const at = (time) => tickLabel(Math.round((data.from_ns + time) / step) * step, step, 1e3);
  return `from ${at(start)} to ${at(end)}`;
}

function heldWords(cpu, parts) {
  const said = parts.filter(([, time]) => time > 0).map(([name, time]) => `${name} ${duration(time)}`);
  return said.length > 0 ? [`CPU ${cpu} was held by ${said.join(', ')}`] : [];
}

/** Who had the CPU that a thread waited for. Of the worst waits interrupts are known too. */
function culpritWords(actor, cpu, wait) {
  const known = worstOverlapping(actor, wait.start, wait.end);
  if (known) {
    const [idle, unknown, hard, soft, steal] = known.rest;
    const ran = known.ran.map(([other, time]) => [culpritName(other, actor), time]);
    const rest = [['nobody', idle], ['not recorded', unknown], ['hard irq', hard], ['soft irq', soft], ['stolen by the hypervisor', steal]];
    return heldWords(cpu, ran.concat(rest));
  }
  const { ran, idle, unknown, others } = whoHad(cpu, wait.start, wait.end);
  const shown = ran.slice(0, 4).map(([other, time]) => [culpritName(other, actor), time]);
  const left = ran.slice(4).reduce((sum, [, time]) => sum + time, others);
  return heldWords(cpu, shown.concat([['others', left], ['nobody', idle], ['not recorded', unknown]]));
}

/** The wait that piece number `place` is part of: how long, why, behind whom. */
function waitWords(lane, place, prefix, view) {
  const pieces = piecesOf(lane), wait = waitAround(pieces, place), first = pieces[wait.first];
  const exact = worstOverlapping(lane.actor, wait.start, wait.end) || wait, cpu = pieces[wait.last].cpu;
  const why = first.state === WOKEN ? wakerWords(first.waker) : 'preempted';
  return [
    `${prefix}: runnable ${duration(exact.end - exact.start)} on CPU ${cpu}, ${why}`,
    ...culpritWords(lane.actor, cpu, exact),
    whenWords(exact.start, exact.end, view),
  ];
}

/** What a task did: in the states of threads, since that is what a poll is for the kernel. */
function taskWords(lane, place, view) {
  const piece = piecesOf(lane)[place], time = duration(piece.end - piece.start);
  const who = piece.waker === NO_WAKER ? '' : actorName(piece.waker - FIRST_WAKER);
  const words = {
    [RUNNING]: `polled ${time} on CPU ${piece.cpu}`,
    [WOKEN]: `ready ${time}${who && `, woken by ${who}`}`,
    [PREEMPTED]: `in a poll, ${time} waiting for CPU ${piece.cpu}`,
    [SLEEPING]: `idle ${time}${who && `, waits for ${who}`}`,
    [BLOCKED]: `in a poll, ${time} blocked: its worker slept`,
    [NEW]: `in a poll, ${time} not recorded by the kernel`,
    [UNKNOWN]: `not recorded ${time}`,
  }[piece.state];
  const waits = piece.state !== SLEEPING ? [] : (lane.waits || []).filter(([start, end]) => start < piece.end && end > piece.start);
  const why = waits.slice(0, 3).map(([, , said]) => said);
  return [`${actorName(lane.actor)}: ${words}`, ...why, whenWords(piece.start, piece.end, view)];
}

function queueWords(lane, time, view) {
  const width = data.span_ns / lane.queue.length, place = Math.min(Math.floor(time / width), lane.queue.length - 1);
  const [depth, stolen] = lane.queue[place], thefts = stolen > 0 ? `, ${count(stolen)} taken from other workers` : '';
  return [`${lane.name}: at most ${count(depth)} tasks waited${thefts}`, whenWords(place * width, (place + 1) * width, view)];
}

function socketWords(lane, time, view) {
  const width = data.span_ns / lane.socket.length, place = Math.min(Math.floor(time / width), lane.socket.length - 1);
  const [flight, unsent, unread, timeouts, again, waits] = lane.socket[place];
  const lines = [`${lane.name}: ${count(flight)} bytes in flight, ${count(unsent)} unsent, ${count(unread)} unread`];
  if (waits > 0) lines.push(waits === 1 ? 'its peer took no data: closed window' : 'nothing was acknowledged until a timer expired');
  if (timeouts + again > 0) lines.push(`${count(timeouts + again)} segments sent again${timeouts > 0 ? `, ${count(timeouts)} of them by a timer` : ''}`);
  return lines.concat(whenWords(place * width, (place + 1) * width, view));
}

function stateWords(lane, place, view) {
  const pieces = piecesOf(lane), piece = pieces[place], next = pieces[place + 1];
  const time = duration(piece.end - piece.start), until = next && next.state === WOKEN ? ', then ' + wakerWords(next.waker) : '';
  const words = {
    [RUNNING]: `running ${time} on CPU ${piece.cpu}`,
    [SLEEPING]: `asleep ${time}${until}`,
    [BLOCKED]: `blocked uninterruptibly ${time}${until}`,
    [STOPPED]: `stopped ${time}`,
    [NEW]: `new, not yet runnable, ${time}`,
    [UNKNOWN]: `not recorded ${time}`,
  }[piece.state];
  return [`${actorName(lane.actor)}: ${words}`, whenWords(piece.start, piece.end, view)];
}

function laneName(lane) {
  if (isLife(lane)) return actorName(lane.actor);
  if (lane.name) return lane.name;
  return lane.kind === 'rest' ? `${lane.threads} more threads` : `CPU ${lane.cpu}`;
}

/** What a thread did between two moments: time by state, and the longest wait that is known. */
function sumStates(lane, start, end) {
  const pieces = piecesOf(lane), sum = { states: new Float64Array(STATES), whole: 0, longest: 0, place: -1 };
  for (let place = placeAt(pieces, start); place < pieces.length && pieces[place].start < end; place++) {
    const piece = pieces[place], time = Math.min(piece.end, end) - Math.max(piece.start, start);
    if (time <= 0) continue;
    sum.whole += time;
    if (piece.shares) piece.shares.forEach((share, state) => { sum.states[state] += share * time; });
    else sum.states[piece.state] += time;
    const waited = piece.shares ? piece.longest : isWaiting(piece) ? piece.end - piece.start : 0;
    if (waited > sum.longest) [sum.longest, sum.place] = [waited, piece.shares ? -1 : place];
  }
  return sum;
}

function mixWords(lane, start, end, view) {
  const { states, whole, longest, place } = sumStates(lane, start, end);
  const said = [
    [states[RUNNING], 'running'],
    ...(lane.kind === 'task' || lane.name ? [[states[WOKEN], 'ready'], [states[PREEMPTED], 'waiting for a CPU in a poll'],
      [states[BLOCKED], 'blocked in a poll'], [states[NEW], 'in a poll not recorded by the kernel']] : []),
    [lane.kind === 'task' || lane.name ? 0 : states[WOKEN] + states[PREEMPTED], longest > 0 ? `waiting for a CPU (longest ${duration(longest)})` : 'waiting for a CPU'],
    [states[SLEEPING], lane.kind === 'rest' ? 'of the CPUs not used by them' : lane.kind === 'task' ? 'idle' : 'asleep'],
    [lane.kind === 'task' || lane.name ? 0 : states[BLOCKED], 'blocked uninterruptibly'],
    [states[STOPPED], 'stopped'],
    [lane.kind === 'task' || lane.name ? 0 : states[NEW], 'new'],
    [states[UNKNOWN], 'not recorded'],
  ].filter(([time]) => time > 0).map(([time, words]) => `${percent(time / whole)} ${words}`);
  const lines = [`${laneName(lane)}: ${said.join(', ')}`, `${whenWords(start, end, view)}, ${duration(end - start)} together`];
  return place < 0 || lane.kind === 'task' ? lines : lines.concat(waitWords(lane, place, 'The longest', view).slice(0, -1));
}

/** What a CPU did between two moments. */
function cpuMixWords(lane, start, end, view) {
  const { ran, idle, unknown, others } = whoHad(lane.cpu, start, end), whole = end - start;
  const busy = ran.reduce((sum, [, time]) => sum + time, others);
  const threads = ran.length + (others > 0 ? ' or more' : '');
  const noun = ran.length === 1 && others === 0 ? 'thread' : 'threads';
  const missing = unknown > 0 ? `, ${percent(unknown / whole)} not recorded` : '';
  const lines = [`CPU ${lane.cpu}: ${percent(busy / whole)} busy, by ${threads} ${noun}${missing}`];
  if (ran.length > 0) lines.push(ran.slice(0, 4).map(([actor, time]) => `${actorName(actor)} ${percent(time / whole)}`).join(', '));
  if (busy < whole && idle > 0) lines.push(`${percent(idle / whole)} idle`);
  return lines.concat(`${whenWords(start, end, view)}, ${duration(whole)} together`);
}

function runWords(lane, piece, view) {
  const time = duration(piece.end - piece.start);
  const nobody = piece.who === IDLE ? `idle ${time}` : `not recorded ${time}`;
  const who = piece.who >= 0 ? `${runnerName(piece.who)} ran ${time}` : nobody;
  return [`CPU ${lane.cpu}: ${who}`, whenWords(piece.start, piece.end, view)];
}

function callWords(lane, call) {
  const [text] = data.names[call.name] || [`probe ${call.name}`];
  const name = text.replace('\u0001', count(call.number));
  const length = call.end === null ? '' : ' ' + duration(call.end - call.start);
  return [`${actorName(lane.actor)}: ${name}${length}`, `at ${duration(data.from_ns + call.start)}`];
}

/** Lines about a moment of a lane, and the piece it is about if it is one. */
function wordsAt(lane, time, view) {
  if (lane.kind === 'queue') return { lines: queueWords(lane, time, view) };
  if (lane.kind === 'socket') return { lines: socketWords(lane, time, view) };
  const shown = lane.kind === 'density' ? laneOfCpu(lane.cpu) : lane;
  const lost = (shown.lost || []).find(([start, end]) => time >= start - 2 * view.columnNs && time <= end + 3 * view.columnNs);
  if (lost) return { lines: [`${count(lost[2])} records lost on CPU ${shown.cpu}`, whenWords(lost[0], lost[1], view)] };
  const pieces = piecesOf(shown), place = placeAt(pieces, time), piece = pieces[place];
  if (!piece || time < piece.start || time >= piece.end) return { lines: [`${laneName(lane)}: not there yet, or not any more`] };
  const isGathered = piece.shares || piece.mix || piece.end - piece.start < view.columnNs;
  if (isGathered || lane.kind === 'density') {
    const start = view.start + view.column(time) * view.columnNs, end = start + view.columnNs;
    const wide = (piece.shares || piece.mix) && piece.end - piece.start > view.columnNs ? [piece.start, piece.end] : [start, end];
    const lines = shown.kind === 'cpu' ? cpuMixWords(shown, ...wide, view) : mixWords(shown, ...wide, view);
    return { lines, span: wide };
  }
  if (lane.kind === 'cpu') return { lines: runWords(lane, piece, view), span: [piece.start, piece.end] };
  if (lane.kind === 'task') return { lines: taskWords(lane, place, view), span: [piece.start, piece.end], place };
  if (isWaiting(piece)) {
    const wait = waitAround(pieces, place);
    return { lines: waitWords(lane, place, actorName(lane.actor), view), span: [wait.start, wait.end], place };
  }
  return { lines: stateWords(lane, place, view), span: [piece.start, piece.end], place };
}

