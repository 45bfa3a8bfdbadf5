// Draws the flame graph of a part of the time, where its address asks for one: #t=FROM-TO, in nanoseconds
// since the start of the recording, and of whom: &tid=, &pid= with &task=, or &cpu=. Without that, nothing is
// touched: the picture is the whole. Works beside inferno's script, which zooms and searches.
const SVG = 'http://www.w3.org/2000/svg', FG = 'http://github.com/jonhoo/inferno';
const FIELDS = 7, FRAME = 16, NARROWEST = 0.0002;
const data = JSON.parse(document.querySelector('script.hz-parts').textContent);
const byId = (name) => document.getElementById(name);

function amount(value) {
  return data.unit === 'ns' ? duration(value) : `${count(Math.round(value))} ${data.unit}`;
}

/** A moment with as many digits as tell `length` apart. */
function moment(ns, length) {
  const places = Math.min(Math.max(2, 11 - Math.floor(Math.log10(Math.max(length, 1)))), 9);
  return (ns / 1e9).toFixed(places) + ' s';
}

/** What the address asks for; null: the whole. */
function wanted() {
  const asked = new URLSearchParams(location.hash.slice(1)), time = /^(\d+)-(\d+)$/.exec(asked.get('t') || '');
  if (!time) return null;
  const from = Number(time[1]), to = Math.max(Number(time[2]), from + 1);
  const number = (name) => (asked.has(name) ? Number(asked.get(name)) : null);
  return { from, to, tid: number('tid'), pid: number('pid'), task: asked.get('task'), cpu: number('cpu') };
}

function isOf({ tid, pid, task, cpu }, who, on) {
  if (tid !== null && who[0] !== tid) return false;
  if (pid !== null && who[1] !== pid) return false;
  if (task !== null && who[2] !== task) return false;
  return cpu === null || on === cpu + 1;
}

/** How much of a part is in the range, from 0 to 1. */
function shareIn({ from, to }, start, length) {
  if (length === 0) return from <= start && start < to ? 1 : 0;
  return Math.max(Math.min(to, start + length) - Math.max(from, start), 0) / length;
}

/** What each node took, with all above it, and how many samples that were. */
function sumUp(range) {
  const sums = new Float64Array(data.nodes.length / 2 + 1);
  let start = 0, samples = 0;
  for (let at = 0; at < data.parts.length; at += FIELDS) {
    start += data.parts[at];
    const share = shareIn(range, start, data.parts[at + 1]);
    if (share === 0 || !isOf(range, data.who[data.parts[at + 3]], data.parts[at + 4])) continue;
    sums[data.parts[at + 2]] += share * data.parts[at + 5];
    samples += data.parts[at + 6];
  }
  for (let node = sums.length - 1; node > 0; node--) sums[data.nodes[2 * node - 2]] += sums[node];
  return { sums, samples };
}

/** Frames to be drawn: name, colour, depth, start and width. */
function layOut(sums) {
  const starts = new Float64Array(sums.length), depths = new Uint16Array(sums.length);
  const whole = sums[0], free = new Float64Array(sums.length);
  const frames = [{ name: 'all', colour: 'rgb(238,238,238)', depth: 0, start: 0, width: whole }];
  for (let node = 1; node < sums.length; node++) {
    const parent = data.nodes[2 * node - 2], [name, colour] = data.frames[data.nodes[2 * node - 1]];
    starts[node] = free[parent];
    free[parent] += sums[node];
    free[node] = starts[node];
    depths[node] = depths[parent] + 1;
    if (sums[node] > 0 && sums[node] >= whole * NARROWEST) {
      frames.push({ name, colour, depth: depths[node], start: starts[node], width: sums[node] });
    }
  }
  return frames;
}

// --- drawing --------------------------------------------------------------------------------

function element(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  Object.keys(attributes).forEach((key) => made.setAttribute(key, attributes[key]));
  if (text !== undefined) made.textContent = text;
  return made;
}

const frames = byId('frames'), svg = document.documentElement, page = document.querySelector('svg > rect');
const still = Array.from(frames.childNodes), stillTotal = frames.getAttribute('total_samples');
const rects = Array.from(frames.querySelectorAll('rect')), ys = rects.map((rect) => Number(rect.getAttribute('y')));
const base = Math.max(...ys), deepest = (base - Math.min(...ys)) / FRAME;
const textBelow = Number(frames.querySelector('text').getAttribute('y')) - ys[0];
const subtitle = byId('subtitle'), stillSubtitle = subtitle.textContent, stillHeight = Number(page.getAttribute('height'));
const notes = Array.from(document.querySelectorAll('.hz-note')), stillNotes = notes.map((note) => note.textContent);
const links = Array.from(document.querySelectorAll('#foot a')), stillLinks = links.map((link) => link.getAttribute('href'));

function drawn(frame, whole, lift) {
  const { name, colour, depth, start, width, taken = width } = frame, y = base + lift - FRAME * depth;
  const group = element('g', {}), share = width === whole ? '100%' : (100 * width / whole).toFixed(2) + '%';
  const rect = element('rect', { x: '0%', y, width: '100%', height: FRAME - 1, fill: colour });
  rect.setAttributeNS(FG, 'fg:x', Math.round(start));
  rect.setAttributeNS(FG, 'fg:w', Math.max(Math.round(start + width) - Math.round(start), 1));
  group.append(element('title', {}, `${name} (${amount(taken)}, ${share})`), rect, element('text', { x: '0%', y: y + textBelow }, ''));
  return group;
}

/** Makes the picture so much higher. */
function grow(by) {
  page.setAttribute('height', stillHeight + by);
  svg.setAttribute('height', stillHeight + by);
  if (svg.hasAttribute('viewBox')) svg.setAttribute('viewBox', `0 0 ${page.getAttribute('width')} ${stillHeight + by}`);
  ['details', 'matched', 'foot'].map(byId).forEach((each) => each && each.setAttribute('transform', `translate(0 ${by})`));
}

function whoWords({ tid, pid, task, cpu }) {
  const known = data.who.find((who) => isOf({ tid, pid, task, cpu: null }, who, 0));
  if (task !== null) return [known ? `${known[4]} (task ${task})` : `task ${task}`];
  if (tid !== null) return [known ? `${known[3]} (tid ${tid})` : `tid ${tid}`];
  return cpu === null ? [] : [`CPU ${cpu}`];
}

function words(range, taken, samples) {
  const { from, to } = range, length = to - from;
  const about = data.slot_ns > 0 ? `, to ${duration(data.slot_ns)}` : '';
  const when = `${moment(from, length)} to ${moment(to, length)} (${duration(length)}${about})`;
  const much = samples > 0 ? `${amount(taken)} in ${samples} ${samples === 1 ? 'sample' : 'samples'}` : nothing();
  return [`${data.title}: ${much}`, when, ...whoWords(range)].join(' · ');
}

function nothing() {
  const { sums, samples } = sumUp({ from: 0, to: Infinity, tid: null, pid: null, task: null, cpu: null });
  const mean = data.unit === 'ns' && data.parts[1] === 0 ? `; one stands for ${duration(sums[0] / samples)}` : '';
  return `no sample${mean}`;
}

function show(nodes, total, said) {
  frames.replaceChildren(...nodes);
  window.total_samples = total;
  subtitle.textContent = said;
  window.unzoom();
  const term = window.get_params().s;
  if (term) window.search(term);
}

function draw() {
  const range = wanted();
  links.forEach((link, place) => link.setAttribute('href', stillLinks[place] + (range ? location.hash : '')));
  // What is missing was counted for the whole.
  notes.forEach((note, place) => { note.textContent = (range ? 'In the whole: ' : '') + stillNotes[place]; });
  whole.style.display = range ? '' : 'none';
  if (!range) {
    grow(0);
    return show(still, Number(stillTotal), stillSubtitle);
  }
  const { sums, samples } = sumUp(range), laid = layOut(sums);
  const lift = (Math.max(...laid.map((frame) => frame.depth)) - deepest) * FRAME;
  if (samples === 0) laid[0] = { ...laid[0], name: 'nothing', width: 1, taken: 0 };
  grow(lift);
  return show(laid.map((frame) => drawn(frame, laid[0].width, lift)), Math.max(Math.round(laid[0].width), 1), words(range, sums[0], samples));
}

/** Leads back to all of it. */
function wholeLink() {
  const text = element('text', { x: svg.viewBox.baseVal.width - 10, y: 41, 'text-anchor': 'end', class: 'hz-whole' }, 'Show all');
  text.style.cursor = 'pointer';
  text.addEventListener('click', () => { location.hash = ''; });
  return text;
}

const whole = wholeLink();
whole.style.display = 'none';

function start() {
  // inferno's script sets itself up when the page is there, and then once more.
  if (window.total_samples === undefined) return setTimeout(start, 5);
  const plain = window.parse_params;
  // Zooming and searching change the address and would forget the fragment.
  window.parse_params = (params) => plain(params).split('#')[0] + location.hash;
  svg.append(whole);
  window.addEventListener('hashchange', draw);
  window.addEventListener('resize', () => { if (page.hasAttribute('width')) whole.setAttribute('x', svg.width.baseVal.value - 10); });
  return setTimeout(() => { if (wanted()) draw(); svg.classList.add('live'); }, 0);
}
start();
