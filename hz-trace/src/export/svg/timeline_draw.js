// Drawing: what draw_*.rs draw, for any part of the time.

const SVG = 'http://www.w3.org/2000/svg';
/** How a state looks: its paint, and its height in a lane 14 high. */
const LOOKS = {
  [RUNNING]: ['run', 14], [WOKEN]: ['wait', 14], [PREEMPTED]: ['wait', 14], [BLOCKED]: ['blocked', 6],
  [STOPPED]: ['stopped', 4], [NEW]: ['new', 3], [UNKNOWN]: ['unknown', 14],
};
/** Parts of a crowded column from top to bottom. */
const PARTS = [
  ['wait', [WOKEN, PREEMPTED]], ['run', [RUNNING]], ['blocked', [BLOCKED]],
  ['stopped', [STOPPED]], ['new', [NEW]], ['unknown', [UNKNOWN]],
];

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  Object.keys(attributes || {}).forEach((key) => made.setAttribute(key, attributes[key]));
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Rectangles gathered into one path per paint: a class, or the colour of a process. */
class Paths {
  constructor() { this.byPaint = new Map(); }
  rect(paint, x, y, width, height) {
    if (width <= 0 || height <= 0) return;
    const path = `M${x.toFixed(2)} ${y}h${width.toFixed(2)}v${height}h${(-width).toFixed(2)}z`;
    if (!this.byPaint.has(paint)) this.byPaint.set(paint, []);
    this.byPaint.get(paint).push(path);
  }
  nodes() {
    return Array.from(this.byPaint, ([paint, parts]) => {
      const isClass = paint[0] !== '#', plain = isClass ? data.paints[paint] : paint;
      const fill = paint === 'unknown' ? 'url(#hz-hatch)' : plain;
      return element('path', { class: isClass ? paint : 'process', fill, d: parts.join('') });
    });
  }
}

/** The columns of pixels of a part of the time. */
class View {
  constructor(start, end) {
    [this.left, this.right] = data.plot;
    this.start = start;
    this.end = end;
    this.columns = this.right - this.left;
    this.columnNs = (end - start) / this.columns;
  }
  x(time) {
    const share = (Math.min(Math.max(time, this.start), this.end) - this.start) / (this.end - this.start);
    return this.left + share * this.columns;
  }
  time(x) { return this.start + (x - this.left) * this.columnNs; }
  column(time) { return Math.min(Math.max(Math.floor((time - this.start) / this.columnNs), 0), this.columns - 1); }
  isWhole() { return this.start <= 0 && this.end >= data.span_ns; }
  /** Calls `each` with every column that a piece overlaps, and for how long. */
  split(piece, each) {
    const last = this.column(Math.min(piece.end, this.end));
    for (let column = this.column(piece.start); column <= last; column++) {
      const start = this.start + column * this.columnNs;
      const time = Math.min(piece.end, start + this.columnNs) - Math.max(piece.start, start);
      if (time > 0) each(column, time);
    }
  }
  /** Pieces that are in sight, in order. */
  visible(pieces, each) {
    for (let place = placeAt(pieces, this.start); place < pieces.length && pieces[place].start < this.end; place++) {
      if (pieces[place].end > this.start) each(pieces[place]);
    }
  }
  /** Draws a long piece where no crowded column is. */
  long(piece, isCrowded, draw) {
    const first = this.column(piece.start), last = this.column(Math.min(piece.end, this.end) - this.columnNs * 1e-6);
    const from = isCrowded[first] && piece.start >= this.start ? this.left + first + 1 : this.x(piece.start);
    const to = isCrowded[last] && piece.end <= this.end ? this.left + last : this.x(piece.end);
    draw(from, to - from);
  }
}

/** Heights of PARTS: in proportion, nothing that happened is less than 1, the sum is at most full. */
function heightsOf(mix, at, whole, full) {
  const heights = PARTS.map(([, states]) => {
    const time = states.reduce((sum, state) => sum + mix[at + state], 0);
    return time > 0 ? Math.min(Math.max(Math.round(time / whole * full), 1), full) : 0;
  });
  while (heights.reduce((sum, height) => sum + height, 0) > full) {
    heights[heights.indexOf(Math.max(...heights))]--;
  }
  return heights;
}

function drawThread(lane, view) {
  const paths = new Paths(), [top, height] = lane.y, pieces = piecesOf(lane);
  const mixes = new Float64Array(view.columns * STATES), isCrowded = new Uint8Array(view.columns);
  const long = [], moved = new Set();
  view.visible(pieces, (piece) => {
    const isLong = !piece.shares && piece.end - piece.start >= view.columnNs;
    if (isLong) long.push(piece);
    if (piece.hasMoved && piece.shares) drawRestless(paths, top, view, piece);
    else if (piece.hasMoved && piece.start >= view.start) moved.add(view.column(piece.start));
    view.split(piece, (column, time) => {
      if (!isLong) isCrowded[column] = 1;
      if (!piece.shares) mixes[column * STATES + piece.state] += time;
      else piece.shares.forEach((share, state) => { mixes[column * STATES + state] += share * time; });
    });
  });
  if (isLife(lane) && pieces.length > 0) {
    const from = view.x(pieces[0].start), to = view.x(pieces[pieces.length - 1].end);
    paths.rect('sleep', from, top + (height - 1.4) / 2, to - from, 1.4);
  }
  long.forEach((piece) => view.long(piece, isCrowded, (x, width) => {
    const look = LOOKS[piece.state];
    if (look) paths.rect(look[0], x, top + (height - look[1]) / 2, width, look[1]);
  }));
  isCrowded.forEach((crowded, column) => { if (crowded) drawColumn(paths, lane, view, mixes, column); });
  moved.forEach((column) => paths.rect('moved', view.left + column, top - 2, 1, moved.size * 8 > view.columns ? 1 : 4));
  if (lane.waits) drawSocketWaits(paths, lane, view);
  if (lane.calls) drawCalls(paths, lane, view);
  return paths.nodes();
}

/** Somewhere in a gathered piece it came to another CPU. */
function drawRestless(paths, top, view, piece) {
  const x = view.x(piece.start);
  paths.rect('new', x, top - 2, Math.max(view.x(piece.end) - x, 1), 1);
}

function drawColumn(paths, lane, view, mixes, column) {
  const [top, height] = lane.y;
  let whole = 0;
  for (let state = 0; state < STATES; state++) whole += mixes[column * STATES + state];
  const heights = heightsOf(mixes, column * STATES, whole, height);
  let y = top + Math.floor((height - heights.reduce((sum, each) => sum + each, 0)) / 2);
  PARTS.forEach(([paint], part) => {
    paths.rect(paint, view.left + column, y, 1, heights[part]);
    y += heights[part];
  });
}

/** What is below a lane: one bar for any number of short ones in a column. */
function drawCalls(paths, lane, view) {
  const bottom = lane.y[0] + lane.y[1] + heightBelow(lane), last = [];
  callsOf(lane).forEach(({ start, end, name, row }) => {
    if ((end === null ? start : end) < view.start || start > view.end) return;
    const top = lane.y[0] + lane.y[1] + 1 + 7 * row, paint = data.names[name] ? data.names[name][1] : 'call';
    const from = view.x(start), width = end === null ? 0 : view.x(end) - from, column = Math.floor(from);
    if (end === null) paths.rect(paint, column, top - 1, 1, paint === 'mark' ? bottom - top : 6);
    else if (width >= 1) paths.rect(paint, from, top, width, 5);
    else if (last[row] !== column) paths.rect(paint, last[row] = column, top, 1, 5);
  });
}

/** Times during which the socket waited that a task waited for. */
function drawSocketWaits(paths, lane, view) {
  const [top, height] = lane.y;
  lane.waits.forEach(([start, end]) => {
    if (end < view.start || start > view.end) return;
    const from = view.x(start);
    paths.rect('lost', from, top + (height - 3) / 2, Math.max(view.x(end) - from, 1), 3);
  });
}

/** What a CPU did in every column: nanoseconds by paint, idle, not recorded, number of threads. */
function cpuColumns(lane, view) {
  const known = lane.columns;
  if (known && known.view === view && known.focus === focus) return known;
  lane.columns = Object.assign(sortRuns(lane, view), { view, focus });
  return lane.columns;
}

function sortRuns(lane, view) {
  const empty = () => ({ ran: new Map(), busy: 0, unknown: 0, threads: 0, actors: new Set(), isCrowded: false });
  const columns = Array.from({ length: view.columns }, empty);
  const long = [];
  view.visible(piecesOf(lane), (piece) => {
    const isLong = !piece.mix && piece.end - piece.start >= view.columnNs;
    if (isLong) long.push(piece);
    view.split(piece, (place, time) => {
      const column = columns[place];
      if (!isLong) column.isCrowded = true;
      addPiece(column, piece, time);
    });
  });
  return { columns, long };
}

function addPiece(column, piece, time) {
  const add = (paint, ran) => {
    column.ran.set(paint, (column.ran.get(paint) || 0) + ran);
    column.busy += ran;
  };
  if (piece.mix) {
    piece.mix.named.forEach(([actor, share]) => add(paintOf(actor), share * time));
    if (piece.mix.others > 0) add('other', piece.mix.others * time);
    column.unknown += piece.mix.unknown * time;
    column.threads = Math.max(column.threads, piece.mix.threads);
  } else if (piece.who >= 0) {
    add(paintOf(piece.who), time);
    column.actors.add(piece.who);
  } else if (piece.who === NOT_RECORDED) column.unknown += time;
  column.threads = Math.max(column.threads, column.actors.size);
}

/** A thread's colour; grey if others are in focus. */
function paintOf(actor) {
  return focus && !focus.has(actor) ? 'sleep' : data.actors[actor][3] || 'other';
}

function drawCpu(lane, view) {
  const paths = new Paths(), [top, height] = lane.y, { columns, long } = cpuColumns(lane, view);
  const isCrowded = columns.map((column) => column.isCrowded);
  long.forEach((piece) => view.long(piece, isCrowded, (x, width) => {
    if (piece.who !== IDLE) paths.rect(piece.who >= 0 ? paintOf(piece.who) : 'unknown', x, top, width, height);
  }));
  columns.forEach((column, place) => {
    if (!column.isCrowded) return;
    if (column.unknown * 2 > view.columnNs) paths.rect('unknown', view.left + place, top, 1, height);
    let sum = 0, y = top + height;
    Array.from(column.ran.keys()).sort().forEach((paint) => {
      sum += column.ran.get(paint);
      const above = top + height - Math.max(Math.round(sum / view.columnNs * height), 1);
      paths.rect(paint, view.left + place, above, 1, y - above);
      y = Math.min(y, above);
    });
  });
  (lane.lost || []).forEach(([start, end]) => {
    const x = view.x(start);
    if (end >= view.start && start <= view.end) paths.rect('lost', x, top, Math.max(view.x(end) - x, 3), height);
  });
  return paths.nodes();
}

function drawDensity(lane, view) {
  const paths = new Paths(), [top, height] = lane.y;
  cpuColumns(laneOfCpu(lane.cpu), view).columns.forEach((column, place) => {
    const x = view.left + place;
    if (column.unknown * 2 > view.columnNs) paths.rect('unknown', x, top, 1, height);
    if (column.busy <= 0) return;
    const tall = Math.min(Math.max(Math.round(column.busy / view.columnNs * height), 2), height);
    const shade = 1 + [2, 3, 5, 9].filter((least) => column.threads >= least).length;
    paths.rect('d' + shade, x, top + height - tall, 1, tall);
  });
  return paths.nodes();
}

/** How many tasks waited, and ticks where some were stolen: as fine as the picture's columns. */
function drawQueue(lane, view) {
  const paths = new Paths(), [top, height] = lane.y, queue = lane.queue || [], width = data.span_ns / queue.length;
  const deepest = Math.max(1, ...queue.map(([depth]) => depth));
  queue.forEach(([depth, stolen], place) => {
    const from = view.x(place * width), to = view.x((place + 1) * width);
    if (to <= from) return;
    const tall = depth > 0 ? Math.max(Math.round(depth / deepest * height), 1) : 0;
    paths.rect('wait', from, top + height - tall, to - from, tall);
    if (stolen > 0) paths.rect('moved', (from + to) / 2, top - 2, 1, 4);
  });
  return paths.nodes();
}

function drawSocket(lane, view) {
  const paths = new Paths(), [top, height] = lane.y, columns = lane.socket || [], width = data.span_ns / columns.length;
  const most = Math.max(1, ...columns.map(([flight, unsent, unread]) => flight + unsent + unread));
  columns.forEach(([flight, unsent, unread, timeouts, again, waits], place) => {
    const from = view.x(place * width), to = view.x((place + 1) * width);
    if (to <= from) return;
    let at = top + height;
    [[flight, 'run'], [unsent, 'wait'], [unread, 'stopped']].forEach(([part, paint]) => {
      const tall = part > 0 ? Math.max(Math.round(part / most * (height - 3)), 1) : 0, high = Math.max(at - tall, top + 3);
      if (high < at) paths.rect(paint, from, high, to - from, at - high);
      at = Math.min(at, high);
    });
    if (waits > 0) paths.rect(waits === 1 ? 'blocked' : 'lost', from, top, to - from, 3);
    if (timeouts > 0) paths.rect('lost', (from + to) / 2, top - 3, 1, height + 3);
    else if (again > 0) paths.rect('moved', (from + to) / 2, top - 2, 1, 6);
  });
  return paths.nodes();
}

function drawLane(lane, view) {
  if (lane.kind === 'socket') return drawSocket(lane, view);
  if (lane.kind === 'queue') return drawQueue(lane, view);
  if (lane.kind === 'cpu') return drawCpu(lane, view);
  return lane.kind === 'density' ? drawDensity(lane, view) : drawThread(lane, view);
}

/** A line of text in one of the plain colours. */
function words(paint, place, text) {
  return element('text', Object.assign({ class: paint, fill: data.paints[paint], 'font-size': 11 }, place), text);
}

/** The axis: 1, 2 or 5 of a power of ten between ticks, at most ten of them. */
function drawAxis(view) {
  const [left, right, top, bottom] = data.plot, span = view.end - view.start;
  const power = Math.pow(10, Math.floor(Math.log10(Math.max(span / 10, 1))));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= span / 10) || power * 10;
  const nodes = [], first = Math.ceil((data.from_ns + view.start) / step);
  for (let number = first; number * step <= data.from_ns + view.end && nodes.length < 40; number++) {
    const x = view.x(number * step - data.from_ns), isLast = x > right - 8;
    nodes.push(element('path', { class: 'grid', fill: 'none', stroke: data.paints.grid, d: `M${x.toFixed(1)} ${top}V${bottom}` }));
    const at = { x: isLast ? right : Math.max(x, left), y: top - 7, 'text-anchor': isLast ? 'end' : 'middle' };
    nodes.push(words('muted', at, tickLabel(number * step, step)));
  }
  return nodes;
}

/** From who woke a task to the task. */
function drawArrows(view) {
  const inSight = (data.arrows || []).filter(({ time }) => !focus && time >= view.start && time <= view.end);
  return inSight.map(({ time, y: [from, to], words: said }) => {
    const x = view.x(time).toFixed(1), back = from < to ? -6 : 6, group = element('g', { class: 'wake' });
    const line = { class: 'moved', fill: 'none', stroke: data.paints.moved, 'stroke-width': 0.8, d: `M${x} ${from}V${to}` };
    const head = { class: 'moved', fill: data.paints.moved, d: `M${x} ${to}l-3 ${back}h6z` };
    group.append(element('title', {}, said), element('path', line), element('path', head));
    return group;
  });
}

/** Why tasks were idle that the picture points out. */
function drawTaskNotes(view) {
  const noted = data.lanes.filter((lane) => lane.note !== undefined && !(focus && !focus.has(lane.actor)));
  const inSight = noted.map((lane) => [lane, lane.waits[lane.note]]).filter(([, [start, end]]) => start < view.end && end > view.start);
  return inSight.map(([lane, [start, end, said]]) => {
    const from = view.x(start), isLeft = from + said.length * 6.9 < view.right;
    const y = lane.y[0] + lane.y[1] + heightBelow(lane) + 12;
    return words('text', { x: isLeft ? from : view.x(end), y, 'text-anchor': isLeft ? 'start' : 'end' }, said);
  });
}

/** What was pointed out, where it is now. */
function drawNotes(view) {
  const nodes = drawArrows(view).concat(drawTaskNotes(view)), red = data.paints.blocked;
  data.worst.filter((wait) => wait.note && wait.start < view.end && wait.end > view.start).forEach((wait) => {
    const lane = laneOfActor(wait.actor);
    if (!lane || (focus && !focus.has(wait.actor))) return;
    const from = view.x(wait.start), to = Math.max(view.x(wait.end), from + 2), [top, height] = lane.y;
    const box = { x: from - 1, y: top - 1, width: to - from + 2, height: height + 2 };
    nodes.push(element('rect', Object.assign(box, { fill: 'none', stroke: red, 'stroke-width': 1.2 })));
    const isLeft = from + wait.note.length * 6.9 < view.right;
    const y = top + height + heightBelow(lane) + 12;
    nodes.push(words('text', { x: isLeft ? from : to, y, 'text-anchor': isLeft ? 'start' : 'end' }, wait.note));
  });
  return nodes;
}

