// Uses a timeline as a person would, and writes what it saw into the page for the test to read.

const seen = { errors: [] };
const pause = () => new Promise((go) => setTimeout(go, 60));

function mouse(win, svg, kind, x, y, more) {
  const corner = svg.getBoundingClientRect();
  const at = { clientX: corner.left + x, clientY: corner.top + y, bubbles: true, cancelable: true, button: 0, view: win };
  const Made = kind === 'wheel' ? win.WheelEvent : win.PointerEvent;
  svg.dispatchEvent(new Made(kind, Object.assign(at, more)));
}

function key(win, svg, name, more) {
  svg.dispatchEvent(new win.KeyboardEvent('keydown', Object.assign({ key: name, bubbles: true, cancelable: true }, more)));
}

const texts = (svg, what) => Array.from(svg.querySelectorAll(what), (each) => each.textContent);
const tip = (svg) => (svg.querySelector('.tip').style.display === 'none' ? '' : texts(svg, '.tip text').join('\n'));
const isolated = (svg) => svg.querySelectorAll('.lane.dim').length;

async function drive(win, svg, facts) {
  const { box, labels } = facts, plain = svg.querySelector('.lane .tiles').innerHTML;
  seen.isLive = svg.classList.contains('live');
  seen.axis = texts(svg, '.axis text');
  // What is under the pointer in each place that the test knows something about.
  seen.tips = {};
  for (const name of Object.keys(facts.points)) {
    mouse(win, svg, 'pointermove', ...facts.points[name]);
    seen.tips[name] = tip(svg);
    seen.tips[name + ' arrows'] = svg.querySelectorAll('.marks .arrow').length;
  }
  mouse(win, svg, 'wheel', ...box, { deltaY: -100 });
  mouse(win, svg, 'wheel', ...box, { deltaY: -100 });
  await pause();
  seen.zoomedAxis = texts(svg, '.axis text');
  seen.zoomedView = svg.dataset.view;
  mouse(win, svg, 'pointermove', ...box);
  seen.zoomedTip = tip(svg);
  seen.zoomedPaths = svg.querySelectorAll('.lane .tiles path').length;
  mouse(win, svg, 'pointerdown', ...box);
  mouse(win, svg, 'pointermove', box[0] - 80, box[1]);
  mouse(win, svg, 'pointerup', box[0] - 80, box[1]);
  await pause();
  seen.pannedView = svg.dataset.view;
  key(win, svg, '0');
  await pause();
  seen.isReset = svg.querySelector('.lane .tiles').innerHTML === plain;
  mouse(win, svg, 'pointerdown', 400, box[1]);
  mouse(win, svg, 'pointermove', 600, box[1]);
  mouse(win, svg, 'pointerup', 600, box[1]);
  await pause();
  seen.markedView = svg.dataset.view;
  key(win, svg, 'Escape');
  await pause();
  mouse(win, svg, 'pointerdown', ...box);
  mouse(win, svg, 'pointerup', ...box);
  await pause();
  seen.dimmedByClick = isolated(svg);
  mouse(win, svg, 'pointerdown', ...box);
  mouse(win, svg, 'pointerup', ...box);
  await pause();
  seen.dimmedBySecondClick = isolated(svg);
  key(win, svg, '/');
  seen.isSearching = svg.ownerDocument.activeElement === svg.querySelector('.hz-search');
  const input = svg.querySelector('.hz-search');
  input.value = labels.search;
  input.dispatchEvent(new win.Event('input', { bubbles: true }));
  await pause();
  seen.tally = texts(svg, '.tally')[0];
  seen.hits = svg.querySelectorAll('.lane.hit').length;
  seen.dimmedBySearch = isolated(svg);
  input.blur();
  key(win, svg, 'n');
  seen.firstMatch = tip(svg);
  key(win, svg, 'n');
  seen.secondMatch = tip(svg);
  key(win, svg, 'Escape');
  await pause();
  seen.dimmedAfterEscape = isolated(svg);
  for (const name of ['+', '+', 'l', 'ArrowRight', 'h', '-']) key(win, svg, name);
  await pause();
  seen.keyedView = svg.dataset.view;
  key(win, svg, '0');
  key(win, svg, 'j');
  key(win, svg, 'j');
  seen.byKeys = tip(svg);
  key(win, svg, 'Enter');
  await pause();
  seen.dimmedByEnter = isolated(svg);
  key(win, svg, 'Escape');
  key(win, svg, '?');
  seen.isHelpShown = svg.querySelector('.help').style.display !== 'none';
  key(win, svg, '?');
  for (let times = 0; times < 90; times++) mouse(win, svg, 'wheel', ...box, { deltaY: -100 });
  await pause();
  seen.deepestView = svg.dataset.view;
  seen.remark = texts(svg, '.coarse')[0];
  seen.foreign = svg.querySelectorAll('img, iframe, a, b, [onload], [onerror], [onclick]').length;
}

async function run(facts) {
  const frame = document.querySelector('iframe');
  if (frame) await new Promise((go) => { if (frame.contentDocument.querySelector('.live')) go(); else frame.onload = go; });
  const win = frame ? frame.contentWindow : window;
  const svg = (frame ? frame.contentDocument : document).querySelector('svg.hz-timeline');
  win.addEventListener('error', (event) => seen.errors.push(String(event.message)));
  await drive(win, svg, facts);
}
