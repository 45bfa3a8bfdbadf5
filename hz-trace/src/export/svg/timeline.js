// Being interactive: zoom, pan, hover, isolate, search. Names go in as text, never as markup.

const XHTML = 'http://www.w3.org/1999/xhtml';
const root = (document.currentScript && document.currentScript.closest('svg.hz-timeline')) || document.querySelector('svg.hz-timeline');
const data = JSON.parse(root.querySelector('script.hz-data').textContent);
const isAlone = root === document.documentElement;
const groups = Array.from(root.querySelectorAll('g.lane')).sort((one, other) => one.dataset.lane - other.dataset.lane);
const parts = groups.map((group) => group.querySelector('.tiles')).concat(root.querySelector('g.axis'), root.querySelector('g.notes'));
const still = parts.map((part) => Array.from(part.childNodes));
const shortest = Math.max(data.unit * 20, 1000);

let view = new View(0, Math.max(data.span_ns, 1));
/** Actors in focus; null if all are. */
let focus = null;
let matches = [], match = -1, drag = null, pointed = null, isDrawing = false;

const HELP = [
  ...(data.flames ? FLAME_HELP : []),
  'wheel, + −   zoom at the pointer',
  'drag   pan; with Shift or before any zoom: zoom into the part marked', '← → h l   pan',
  '↑ ↓ k j, Tab   go from lane to lane',
  'click, Enter   isolate a thread; again: show all',
  '/   search by name, tid or pid; n N next, previous',
  '0, Esc   everything as it was',
  '?   this',
];

// --- what is seen ---------------------------------------------------------------------------

/** Draws with the next frame. A page in the background has no frames, so a timer does it too. */
function redrawSoon() {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(redraw);
  setTimeout(redraw, 40);
}

function redraw() {
  if (!isDrawing) return;
  isDrawing = false;
  const isStill = view.isWhole() && !focus;
  const drawn = isStill ? still : data.lanes.map((lane) => drawLane(lane, view)).concat([drawAxis(view), drawNotes(view)]);
  parts.forEach((part, place) => part.replaceChildren(...drawn[place]));
  groups.forEach((group, place) => {
    const lane = data.lanes[place];
    group.classList.toggle('dim', focus !== null && (lane.kind === 'rest' || lane.kind === 'queue' || lane.kind === 'socket' || (isLife(lane) && !focus.has(lane.actor))));
    group.classList.toggle('hit', focus !== null && isLife(lane) && focus.has(lane.actor));
  });
  const isCoarse = data.resolution > 0 && view.columnNs < data.resolution;
  detail.textContent = isStill ? detailStill : detailStill.replace(/^[^;]*/, `A column of 1 px is ${duration(view.columnNs)}`);
  const coarse = `Shorter than ${duration(data.resolution)} is aggregated in this file; export a part with --from/--to to see it`;
  remark.textContent = isCoarse ? coarse : '';
  leadToFlames(view, focus);
  root.dataset.view = `${Math.round(view.start)}-${Math.round(view.end)}`;
}

function show(start, end) {
  const length = Math.min(Math.max(end - start, Math.min(shortest, data.span_ns)), data.span_ns);
  const from = Math.min(Math.max(start, 0), data.span_ns - length);
  view = new View(from, from + Math.max(length, 1));
  hideTip();
  redrawSoon();
}

function zoom(factor, at) {
  const length = (view.end - view.start) * factor, share = (at - view.start) / (view.end - view.start);
  show(at - length * share, at - length * share + length);
}

function pan(share) {
  const step = (view.end - view.start) * share;
  show(view.start + step, view.end + step);
}

function setFocus(actors) {
  focus = actors;
  redrawSoon();
}

function reset() {
  search.value = '';
  matches = [];
  tally.textContent = '';
  help.style.display = 'none';
  setFocus(null);
  show(0, data.span_ns);
}

// --- the pointer ----------------------------------------------------------------------------

function pointOf(event) {
  const point = root.createSVGPoint();
  [point.x, point.y] = [event.clientX, event.clientY];
  return point.matrixTransform(root.getScreenCTM().inverse());
}

function isInPlot(point) {
  const [left, right, top, bottom] = data.plot;
  return point.x >= left && point.x <= right && point.y >= top - 24 && point.y <= bottom;
}

function laneAt(y) {
  return data.lanes.find((lane) => y >= lane.y[0] - 1 && y <= lane.y[0] + lane.y[1] + (heightBelow(lane) || 1));
}

function callAt(lane, point) {
  if (!lane.calls || point.y <= lane.y[0] + lane.y[1]) return undefined;
  const time = view.time(point.x), slack = view.columnNs * 1.5;
  const row = Math.floor((point.y - lane.y[0] - lane.y[1]) / 7);
  const isHere = (call) => time >= call.start - slack && time <= (call.end === null ? call.start : call.end) + slack;
  // A mark is a tick across all rows.
  return callsOf(lane).find((call) => isHere(call) && (call.row === row || call.end === null));
}

function hover(point) {
  pointed = point;
  const lane = isInPlot(point) && laneAt(point.y);
  if (!lane) return hideTip();
  const call = callAt(lane, point), said = call ? { lines: callWords(lane, call) } : wordsAt(lane, view.time(point.x), view);
  showTip(said.lines.concat(flameAt(point) ? FLAME_TIP : []), point);
  if (said.span) outline(lane, said.span);
  if (said.place !== undefined) drawArrow(lane, said.place);
}

/** The piece of a wait that a piece ended with, belongs to, or began after; it says who woke. */
function wakeUpOf(pieces, place) {
  if (pieces[place].state === SLEEPING || pieces[place].state === BLOCKED) return pieces[place + 1];
  const first = pieces[waitAround(pieces, place).first];
  if (first.state === WOKEN || place === 0) return first;
  return pieces[waitAround(pieces, place - 1).first];
}

/** The wake-up that a piece is about: from the waker's lane to the woken's. */
function drawArrow(lane, place) {
  const woken = wakeUpOf(piecesOf(lane), place);
  if (!woken || woken.state !== WOKEN || woken.waker < FIRST_WAKER) return;
  const from = laneOfActor(woken.waker - FIRST_WAKER);
  if (!from || from === lane || woken.start < view.start || woken.start > view.end) return;
  const x = view.x(woken.start), isDown = from.y[0] < lane.y[0];
  const start = from.y[0] + from.y[1] / 2, end = isDown ? lane.y[0] - 1 : lane.y[0] + lane.y[1] + 1, head = isDown ? -5 : 5;
  marks.append(
    element('circle', { class: 'arrow', cx: x, cy: start, r: 2.5 }),
    element('path', { class: 'arrow line', d: `M${x} ${start}V${end}` }),
    element('path', { class: 'arrow', d: `M${x} ${end}l-4 ${head}h8z` }));
}

function outline(lane, [start, end]) {
  const x = view.x(start), width = Math.max(view.x(end) - x, 1);
  marks.append(element('rect', { class: 'outline', x: x - 0.5, y: lane.y[0] - 0.5, width: width + 1, height: lane.y[1] + 1 }));
}

function hideTip() {
  tip.style.display = 'none';
  marks.replaceChildren();
}

/** Lines of at most so many letters. */
function wrapped(lines, most) {
  return lines.reduce((all, line) => {
    const rows = [''];
    line.split(' ').forEach((word) => {
      const last = rows.length - 1;
      if (rows[last] && rows[last].length + word.length >= most) rows.push('   ' + word);
      else rows[last] += (rows[last] ? ' ' : '') + word;
    });
    return all.concat(rows);
  }, []);
}

function showTip(lines, point) {
  hideTip();
  const box = element('rect', { class: 'tip-box', rx: 4 });
  const place = (row) => ({ class: row ? 'tip-text' : 'tip-text first', x: 9, y: 18 + row * 16 });
  const rows = wrapped(lines, 92).map((line, row) => element('text', place(row), line));
  tip.replaceChildren(box, ...rows);
  tip.style.display = '';
  const width = 18 + Math.max(...rows.map((row) => row.getComputedTextLength())), height = rows.length * 16 + 10;
  box.setAttribute('width', width);
  box.setAttribute('height', height);
  const [, , wide, tall] = root.getAttribute('viewBox').split(' ').map(Number);
  const x = Math.max(Math.min(point.x + 14, wide - width - 4), 4);
  const y = point.y + 18 + height > tall ? Math.max(point.y - height - 12, 4) : point.y + 18;
  tip.setAttribute('transform', `translate(${x} ${y})`);
}

function onWheel(event) {
  const point = pointOf(event);
  if (!isInPlot(point) || (view.isWhole() && event.deltaY > 0 && !event.shiftKey)) return;
  event.preventDefault();
  const sideways = event.shiftKey ? event.deltaY || event.deltaX : Math.abs(event.deltaX) > Math.abs(event.deltaY) ? event.deltaX : 0;
  if (sideways) pan(Math.sign(sideways) * 0.1);
  else zoom(event.deltaY < 0 ? 0.8 : 1.25, view.time(point.x));
}

function onDown(event) {
  const point = pointOf(event);
  if (event.button !== 0 || !isInPlot(point)) return;
  drag = { point, start: view.start, end: view.end, isMarking: event.shiftKey || view.isWhole(), isMoved: false };
}

function onMove(event) {
  const point = pointOf(event);
  if (!drag) return hover(point);
  if (Math.abs(point.x - drag.point.x) > 3) drag.isMoved = true;
  if (!drag.isMoved) return undefined;
  hideTip();
  if (drag.isMarking) {
    const from = Math.min(point.x, drag.point.x), width = Math.abs(point.x - drag.point.x), [, , top, bottom] = data.plot;
    marks.append(element('rect', { class: 'marked', x: from, y: top, width, height: bottom - top }));
    return undefined;
  }
  const moved = (drag.point.x - point.x) * (drag.end - drag.start) / view.columns;
  return show(drag.start + moved, drag.end + moved);
}

function onUp(event) {
  if (!drag) return;
  const { point: begun, isMarking, isMoved } = drag, point = pointOf(event);
  drag = null;
  if (!isMoved) return (event.ctrlKey || event.metaKey) && data.flames ? openFlame(point) : isolateAt(point);
  if (isMarking) show(view.time(Math.min(begun.x, point.x)), view.time(Math.max(begun.x, point.x)));
  return undefined;
}

function isolateAt(point) {
  const lane = laneAt(point.y);
  if (!lane || lane.kind === 'rest' || lane.kind === 'queue' || lane.kind === 'socket') return;
  if (isLife(lane)) return isolate(lane.actor);
  const pieces = piecesOf(laneOfCpu(lane.cpu)), piece = pieces[placeAt(pieces, view.time(point.x))];
  const actor = !piece ? 0 : piece.mix && piece.mix.named.length > 0 ? piece.mix.named[0][0] : piece.who;
  if (actor > 0) isolate(actor); else setFocus(null);
}

function isolate(actor) {
  setFocus(focus && focus.size === 1 && focus.has(actor) ? null : new Set([actor]));
}

// --- search and keys ------------------------------------------------------------------------

function find(words) {
  const wanted = words.trim().toLowerCase();
  const isHit = ([tid, pid, name]) => name.toLowerCase().includes(wanted) || [String(tid), String(pid)].includes(wanted);
  const everybody = Array.from(data.actors.keys()).slice(1);
  const hits = wanted ? everybody.filter((actor) => isHit(data.actors[actor])) : [];
  const isMatch = (lane) => isLife(lane) && hits.includes(lane.actor);
  matches = Array.from(data.lanes.keys()).filter((place) => isMatch(data.lanes[place]));
  match = -1;
  const shown = matches.length < hits.length ? `, ${matches.length} with a lane` : '';
  tally.textContent = wanted ? `${hits.length} found${shown}` : '';
  setFocus(wanted ? new Set(hits) : null);
}

function nextMatch(step) {
  if (matches.length === 0) return;
  match = match < 0 ? (step > 0 ? 0 : matches.length - 1) : (match + step + matches.length) % matches.length;
  tally.textContent = `${match + 1} of ${matches.length}`;
  goTo(matches[match]);
}

function goTo(place) {
  groups[place].focus({ preventScroll: true });
  groups[place].scrollIntoView({ block: 'nearest' });
}

function step(by) {
  const at = groups.indexOf(document.activeElement);
  goTo(Math.min(Math.max(at < 0 ? data.lanes.findIndex(isLife) : at + by, 0), groups.length - 1));
}

function pressedOnLane() {
  const lane = data.lanes[groups.indexOf(document.activeElement)];
  if (lane && isLife(lane)) isolate(lane.actor);
}

const middle = () => (view.start + view.end) / 2;
const KEYS = {
  ArrowLeft: () => pan(-0.15), h: () => pan(-0.15), ArrowRight: () => pan(0.15), l: () => pan(0.15),
  ArrowUp: () => step(-1), k: () => step(-1), ArrowDown: () => step(1), j: () => step(1),
  '+': () => zoom(0.67, middle()), '=': () => zoom(0.67, middle()), '-': () => zoom(1.5, middle()),
  0: reset, Escape: reset, '/': () => search.focus(), n: () => nextMatch(1), N: () => nextMatch(-1),
  f: () => openFlame(pointed), '?': () => { help.style.display = help.style.display === 'none' ? '' : 'none'; }, Enter: pressedOnLane,
};

function onKey(event) {
  if (event.target === search || event.ctrlKey || event.altKey || event.metaKey || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
}

function onSearchKey(event) {
  if (event.key === 'Enter') nextMatch(event.shiftKey ? -1 : 1);
  if (event.key === 'Enter' || event.key === 'Escape') {
    if (event.key === 'Escape') reset();
    search.blur();
    event.preventDefault();
  }
}

// --- setting up -----------------------------------------------------------------------------

/** A lane can be reached by keys, says what it is, and has no tooltip but ours. */
function prepareLane(group, place) {
  const title = group.querySelector('title');
  group.setAttribute('tabindex', '0');
  group.setAttribute('role', 'group');
  group.setAttribute('aria-label', title.textContent);
  const [top, height] = data.lanes[place].y;
  // A click says what it hit, not what the lane is.
  group.addEventListener('focus', () => drag || showTip([title.textContent], { x: data.plot[0] + 30, y: top + height }));
  group.addEventListener('blur', hideTip);
  root.querySelectorAll('.loss title').forEach((each) => each.remove());
  title.remove();
}

function searchBox() {
  const frame = element('foreignObject', { x: data.plot[1] - 186, y: 37, width: 160, height: 22 });
  const input = document.createElementNS(XHTML, 'input');
  input.setAttribute('type', 'search');
  input.setAttribute('placeholder', 'name, tid or pid  /');
  input.setAttribute('aria-label', 'Search threads by name, thread id or process id');
  input.setAttribute('class', 'hz-search');
  input.addEventListener('input', () => find(input.value));
  input.addEventListener('keydown', onSearchKey);
  frame.append(input);
  return frame;
}

function helpButton() {
  const button = element('g', { class: 'help-button', role: 'button', tabindex: 0, 'aria-label': 'Help' });
  button.setAttribute('transform', `translate(${data.plot[1] - 20} 38)`);
  button.append(element('rect', { width: 20, height: 20, rx: 4 }), element('text', { x: 10, y: 14.5, 'text-anchor': 'middle' }, '?'));
  button.addEventListener('click', KEYS['?']);
  return button;
}

function helpPanel() {
  const panel = element('g', { class: 'help', transform: `translate(${data.plot[1] - 520} 66)` });
  panel.append(element('rect', { class: 'tip-box', width: 520, height: HELP.length * 18 + 16, rx: 4 }));
  HELP.forEach((line, row) => {
    const [keys, words] = line.split('   ');
    const y = 24 + row * 18;
    panel.append(element('text', { class: 'tip-text first', x: 12, y }, keys), element('text', { class: 'tip-text', x: 122, y }, words));
  });
  panel.style.display = 'none';
  panel.addEventListener('pointerdown', (event) => { event.stopPropagation(); KEYS['?'](); });
  return panel;
}

const marks = element('g', { class: 'marks' }), tip = element('g', { class: 'tip', role: 'status' });
const help = helpPanel(), box = searchBox(), search = box.firstChild;
const tally = element('text', { class: 'muted tally', x: data.plot[1] - 192, y: 52, 'text-anchor': 'end', 'font-size': 11 });
const remark = element('text', { class: 'muted coarse', x: data.plot[1], y: data.plot[3] + 38, 'text-anchor': 'end', 'font-size': 11 });

const detail = root.querySelector('.remark text'), detailStill = detail.textContent;

groups.forEach(prepareLane);
root.append(marks, box, helpButton(), tally, remark, help, tip);
root.setAttribute('role', 'group');
root.setAttribute('aria-label', root.querySelector('title').textContent);
if (!isAlone) root.querySelector('title').remove();
root.setAttribute('tabindex', '0');
root.classList.add('live');
root.addEventListener('wheel', onWheel, { passive: false });
root.addEventListener('pointerdown', onDown);
root.addEventListener('pointermove', onMove);
root.addEventListener('pointerleave', () => { if (!drag) hideTip(); pointed = null; });
window.addEventListener('pointerup', onUp);
(isAlone ? document : root).addEventListener('keydown', onKey);
hideTip();
leadToFlames(view, focus);
