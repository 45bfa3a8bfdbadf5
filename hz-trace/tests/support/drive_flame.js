// Goes from a timeline to its flame graphs as a person would, and writes what it saw into the page.

const seen = { errors: [], opened: {}, flames: {} };
const pause = (time) => new Promise((go) => setTimeout(go, time || 60));

async function framed(address) {
  const frame = document.createElement('iframe');
  Object.assign(frame, { width: 1300, height: 900, src: address });
  document.body.append(frame);
  for (let tries = 0; tries < 200; tries++) {
    await pause(20);
    const page = frame.contentDocument;
    if (page && page.documentElement && page.documentElement.classList.contains('live')) break;
  }
  frame.contentWindow.addEventListener('error', (event) => seen.errors.push(String(event.message)));
  return frame;
}

/** Every frame: its text, and where it is in what unit the script of inferno reads. */
function look(page) {
  const frames = Array.from(page.querySelectorAll('#frames > g'), (group) => {
    const rect = group.querySelector('rect');
    const [x, width] = [rect.getAttribute('fg:x'), rect.getAttribute('fg:w')].map(Number);
    return { title: group.querySelector('title').textContent, x, width, y: Number(rect.getAttribute('y')), share: parseFloat(rect.getAttribute('width')), isHidden: group.classList.contains('hide') };
  });
  const svg = page.documentElement;
  return {
    frames, subtitle: page.getElementById('subtitle').textContent, height: Number(svg.getAttribute('height')),
    links: Array.from(page.querySelectorAll('#foot a'), (link) => link.getAttribute('href')),
    address: page.location.href.split('/').pop(), foot: page.getElementById('foot').getAttribute('transform'),
    isWholeOffered: page.querySelector('.hz-whole').style.display !== 'none',
    matched: page.getElementById('matched').textContent,
  };
}

async function driveTimeline({ points }) {
  const frame = await framed('timeline.svg'), win = frame.contentWindow, svg = frame.contentDocument.documentElement;
  const links = () => Array.from(svg.querySelectorAll('a.flame-link'), (link) => link.getAttribute('href'));
  let opened = null;
  win.open = (address, name) => { opened = [address, name]; };
  const mouse = (kind, [x, y], more) => svg.dispatchEvent(new win.PointerEvent(kind, Object.assign({ clientX: x, clientY: y, bubbles: true, cancelable: true, button: 0, view: win }, more)));
  const key = (name) => svg.dispatchEvent(new win.KeyboardEvent('keydown', { key: name, bubbles: true, cancelable: true }));
  const after = (act) => { opened = null; act(); return opened; };
  seen.still = links();
  seen.remark = svg.querySelector('.flame-remark').textContent;
  seen.opened.nowhere = after(() => key('f'));
  for (const name of Object.keys(points)) {
    mouse('pointermove', points[name]);
    const tip = Array.from(svg.querySelectorAll('.tip text'), (each) => each.textContent);
    seen.opened[name] = { key: after(() => key('f')), tip };
    seen.opened[name].click = after(() => { mouse('pointerdown', points[name]); mouse('pointerup', points[name], { ctrlKey: true }); });
    seen.opened[name].plain = after(() => { mouse('pointerdown', points[name]); mouse('pointerup', points[name]); });
    await pause();
    seen.opened[name].isolated = links();
    key('Escape');
    await pause();
  }
  seen.back = links();
  frame.remove();
}

async function driveFlames({ addresses }) {
  for (const address of addresses) {
    const frame = await framed(address), win = frame.contentWindow, page = frame.contentDocument;
    const found = { first: look(page) };
    if (address.includes('#')) {
      const inner = page.querySelectorAll('#frames > g rect')[1];
      if (inner) {
        inner.dispatchEvent(new win.MouseEvent('click', { bubbles: true, view: win }));
        found.zoomed = look(page);
        page.getElementById('unzoom').dispatchEvent(new win.MouseEvent('click', { bubbles: true, view: win }));
        found.unzoomed = look(page);
        win.search('inner');
        found.searched = look(page);
      }
      page.querySelector('.hz-whole').dispatchEvent(new win.MouseEvent('click', { bubbles: true, view: win }));
      await pause();
      found.whole = look(page);
    }
    seen.flames[address] = found;
    frame.remove();
  }
}

async function run(facts) {
  await driveTimeline(facts);
  await driveFlames(facts);
}
