// Reading: the lanes that data.rs wrote. Times are nanoseconds since the start of the picture.

const UNKNOWN = 0, NEW = 1, RUNNING = 2, WOKEN = 3, PREEMPTED = 4, SLEEPING = 5, BLOCKED = 6, STOPPED = 7;
const STATES = 8, GATHERED = 8;
/** Who had a CPU, where it was no thread. */
const NOT_RECORDED = -1, IDLE = -2, SEVERAL = -3;
/** Wakers before the first actor. */
const HARD_IRQ = 0, SOFT_IRQ = 1, FIRST_WAKER = 2, NO_WAKER = -1;

class Reader {
  constructor(base64) {
    this.text = atob(base64 || '');
    this.at = 0;
  }
  isDone() { return this.at >= this.text.length; }
  byte() { return this.text.charCodeAt(this.at++); }
  /** Seven bits per byte, the lowest first; more than 32 bits, so no shifts. */
  number() {
    let value = 0, scale = 1;
    for (;;) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (!(byte & 128)) return value;
      scale *= 128;
    }
  }
}

function isWaiting(piece) { return piece.state === WOKEN || piece.state === PREEMPTED; }

/** A thread's life as pieces. A gathered one has `shares` by state, which sum to 1. */
function readThread(lane, unit) {
  const reader = new Reader(lane.pieces), pieces = [];
  let at = lane.start * unit, cpu = -1;
  while (!reader.isDone()) {
    const head = reader.number(), state = head % 16, flags = Math.floor(head / 16) % 4;
    const end = at + Math.floor(head / 64) * unit;
    const piece = { start: at, end, state, cpu, waker: NO_WAKER, hasMoved: false, shares: null, longest: 0 };
    if (state === GATHERED) {
      readShares(reader, piece, unit);
      piece.hasMoved = (flags & 1) > 0;
    } else {
      if (flags & 1) {
        piece.cpu = reader.number();
        piece.hasMoved = cpu >= 0 && cpu !== piece.cpu;
        cpu = piece.cpu;
      }
      if (flags & 2) piece.waker = reader.number();
    }
    pieces.push(piece);
    at = end;
  }
  return pieces;
}

function readShares(reader, piece, unit) {
  const mask = reader.byte(), shares = new Float64Array(STATES);
  let whole = 0;
  for (let state = 0; state < STATES; state++) {
    if (mask & (1 << state)) whole += shares[state] = reader.byte();
  }
  for (let state = 0; state < STATES; state++) shares[state] /= whole || 1;
  piece.shares = shares;
  if (mask & (1 << WOKEN | 1 << PREEMPTED)) piece.longest = reader.number() * unit;
}

/** A CPU's time as pieces. A gathered one says how many `threads` ran and the shares of some. */
function readCpu(lane, unit) {
  const reader = new Reader(lane.pieces), pieces = [];
  let at = 0;
  while (!reader.isDone()) {
    const head = reader.number(), kind = head % 4, end = at + Math.floor(head / 4) * unit;
    const piece = { start: at, end, who: [NOT_RECORDED, IDLE, 0, SEVERAL][kind], mix: null };
    if (kind === 2) piece.who = reader.number();
    if (kind === 3) piece.mix = readRuns(reader);
    pieces.push(piece);
    at = end;
  }
  return pieces;
}

function readRuns(reader) {
  const threads = reader.number(), named = [];
  let whole = 0;
  for (let count = Math.min(threads, 3); count > 0; count--) {
    const actor = reader.number(), weight = reader.byte();
    named.push([actor, weight]);
    whole += weight;
  }
  const others = reader.byte(), idle = reader.byte(), unknown = reader.byte();
  whole = (whole + others + idle + unknown) || 1;
  return {
    threads, others: others / whole, idle: idle / whole, unknown: unknown / whole,
    named: named.map(([actor, weight]) => [actor, weight / whole]),
  };
}

/** What is below a lane: calls, requests, spans; what only happened has no end. */
function readCalls(lane, unit) {
  const reader = new Reader(lane.calls), calls = [];
  let at = 0;
  while (!reader.isDone()) {
    at += reader.number() * unit;
    const name = reader.number(), length = reader.number(), number = reader.number();
    const end = length > 0 ? at + (length - 1) * unit : null;
    calls.push({ start: at, end, name: Math.floor(name / 8), row: name % 8, number });
  }
  return calls;
}

/** A lane's pieces, read when they are first asked for. */
function piecesOf(lane) {
  if (!lane.read) lane.read = lane.kind === 'cpu' ? readCpu(lane, data.unit) : readThread(lane, data.unit);
  return lane.read;
}

function callsOf(lane) {
  if (!lane.readCalls) lane.readCalls = readCalls(lane, data.unit);
  return lane.readCalls;
}

/** Height of what is below a lane. */
function heightBelow(lane) { return 7 * (lane.rows || 0); }

/** Place of the last piece that begins at `time` or before; 0 if there is none. */
function placeAt(pieces, time) {
  let low = 0, high = pieces.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (pieces[middle].start <= time) low = middle; else high = middle - 1;
  }
  return low;
}

function laneOfCpu(cpu) { return data.lanes.find((lane) => lane.kind === 'cpu' && lane.cpu === cpu); }

/** A thread's or a task's lane. */
function isLife(lane) { return lane.kind === 'thread' || lane.kind === 'task'; }

function laneOfActor(actor) { return data.lanes.find((lane) => isLife(lane) && lane.actor === actor); }

/** The whole wait that piece number `place` is part of: it may have been moved meanwhile. */
function waitAround(pieces, place) {
  let first = place, last = place;
  while (first > 0 && isWaiting(pieces[first - 1])) first--;
  while (last + 1 < pieces.length && isWaiting(pieces[last + 1])) last++;
  return { first, last, start: pieces[first].start, end: pieces[last].end };
}

/** Who had `cpu` between two moments, by thread, the longest first. */
function whoHad(cpu, start, end) {
  const lane = laneOfCpu(cpu), ran = new Map(), found = { ran: [], idle: 0, unknown: 0, others: 0 };
  if (!lane) return found;
  const pieces = piecesOf(lane);
  const add = (actor, time) => ran.set(actor, (ran.get(actor) || 0) + time);
  for (let place = placeAt(pieces, start); place < pieces.length && pieces[place].start < end; place++) {
    const { who, mix, ...piece } = pieces[place];
    const time = Math.min(piece.end, end) - Math.max(piece.start, start);
    if (time <= 0) continue;
    if (mix) {
      mix.named.forEach(([actor, share]) => add(actor, share * time));
      found.others += mix.others * time;
      found.idle += mix.idle * time;
      found.unknown += mix.unknown * time;
    } else if (who === IDLE) found.idle += time;
    else if (who === NOT_RECORDED) found.unknown += time;
    else add(who, time);
  }
  found.ran = Array.from(ran).sort((one, other) => other[1] - one[1]);
  return found;
}

/** The wait among the worst that overlaps most of the time of an actor's. */
function worstOverlapping(actor, start, end) {
  const touches = (wait) => wait.actor === actor && wait.start < end && wait.end > start;
  return data.worst.filter(touches).sort((one, other) => (other.end - other.start) - (one.end - one.start))[0];
}

