// After a driver: runs it and writes what it saw into the page, its errors too.

window.addEventListener('error', (event) => seen.errors.push(String(event.message)));

async function start(facts) {
  try {
    await run(facts);
  } catch (error) {
    seen.errors.push(String(error) + ' ' + error.stack);
  }
  const out = document.createElement('pre');
  out.id = 'seen';
  out.textContent = JSON.stringify(seen, null, 1);
  document.body.replaceChildren(out);
}
