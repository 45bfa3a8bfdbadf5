// Leading to flame graphs made beside the picture: of the span under the pointer, or of what is in sight.

const FLAME_TIP = 'f or Ctrl-click: flame graph of this';
const FLAME_HELP = ['f   flame graph of what is under the pointer, else of what is in sight', 'Ctrl-click   the same of what was clicked'];

/** The one that tells of time off a CPU or on it; the other, if it was not made. */
function flameOf(isOff) {
  return data.flames.find((flame) => flame.kind === (isOff ? 'off_cpu' : 'on_cpu')) || data.flames[0];
}

/** Of whom, as a flame graph's address asks for it. */
function flameWho(lane) {
  if (lane.task !== undefined) return `&pid=${data.actors[lane.actor][1]}&task=${lane.task}`;
  if (lane.kind === 'thread') return `&tid=${data.actors[lane.actor][0]}`;
  return lane.cpu === undefined ? '' : `&cpu=${lane.cpu}`;
}

function flameAddress(address, start, end, who) {
  const from = Math.round(data.from_ns + start), to = Math.max(Math.round(data.from_ns + end), from + 1);
  return `${address}#t=${from}-${to}${who}`;
}

/** The address of the span at a point; null if there is no span or no flame graph. */
function flameAt(point) {
  const lane = data.flames && point && isInPlot(point) && laneAt(point.y);
  if (!lane || lane.kind === 'queue' || lane.kind === 'socket' || lane.kind === 'rest') return null;
  const call = callAt(lane, point);
  if (call) return call.end === null ? null : flameAddress(flameOf(false).address, call.start, call.end, flameWho(lane));
  const said = wordsAt(lane, view.time(point.x), view);
  if (!said.span) return null;
  const isOff = said.place !== undefined && piecesOf(lane)[said.place].state !== RUNNING;
  return flameAddress(flameOf(isOff).address, ...said.span, flameWho(lane));
}

function flameInSight({ address }, seen, actors) {
  const lane = actors && actors.size === 1 && laneOfActor(Array.from(actors)[0]);
  return flameAddress(address, seen.start, seen.end, lane ? flameWho(lane) : '');
}

/** Opens it in a tab of its own, the same for every span. */
function openFlame(point) {
  if (data.flames) window.open(flameAt(point) || flameInSight(data.flames[0], view, focus), 'hz-flame');
}

/** Has the links lead to what is in sight. */
function leadToFlames(seen, actors) {
  const isAll = seen.isWhole() && !actors;
  root.querySelectorAll('a.flame-link').forEach((link, place) => link.setAttribute('href', isAll ? data.flames[place].address : flameInSight(data.flames[place], seen, actors)));
  const remark = root.querySelector('.flame-remark text');
  if (remark) remark.textContent = `of what is in sight; ${FLAME_TIP.replace('this', 'what is under the pointer')}`;
}

