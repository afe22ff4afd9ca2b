'use strict';
// Requests the sections again every second and replaces those that differ. A section in which text is selected waits.
const form = document.querySelector('form');
const pause = document.getElementById('pause');
const trouble = document.getElementById('trouble');
let paused = false, round = 0, timer = 0;

function filters() {
  const given = new URLSearchParams(new FormData(form));
  if (!given.get('operation')) given.delete('operation');
  const text = given.toString();
  return text ? '?' + text : '';
}

function isSelected(section) {
  const selection = document.getSelection();
  return selection && !selection.isCollapsed && selection.containsNode(section, true);
}

function place(section) {
  const old = document.getElementById(section.id);
  if (!old || old.innerHTML === section.innerHTML || isSelected(old)) return;
  const before = old.querySelector('.wrap');
  const left = before ? before.scrollLeft : 0;
  old.replaceChildren(...section.childNodes);
  const after = old.querySelector('.wrap');
  if (after) after.scrollLeft = left;
}

async function renew() {
  const mine = ++round;
  clearTimeout(timer);
  try {
    const answer = await fetch('/_emulator/sections' + filters(), { cache: 'no-store' });
    if (!answer.ok) throw new Error('status ' + answer.status);
    const text = await answer.text();
    // A later request, with other filters, has been sent meanwhile.
    if (mine !== round) return;
    const page = new DOMParser().parseFromString(text, 'text/html');
    for (const section of page.querySelectorAll('[data-part]')) place(section);
    trouble.textContent = '';
  } catch (error) {
    if (mine !== round) return;
    trouble.textContent = 'The emulator does not answer (' + error.message + ').';
  }
  if (!paused) timer = setTimeout(renew, 1000);
}

function filter() {
  history.replaceState(null, '', location.pathname + filters());
  renew();
}

pause.hidden = false;
pause.addEventListener('click', () => {
  paused = !paused;
  pause.textContent = paused ? 'Resume' : 'Pause';
  pause.setAttribute('aria-pressed', String(paused));
  if (paused) { round += 1; clearTimeout(timer); } else renew();
});
form.addEventListener('input', filter);
form.addEventListener('submit', (event) => { event.preventDefault(); filter(); });
document.addEventListener('visibilitychange', () => {
  if (document.hidden) { round += 1; clearTimeout(timer); } else if (!paused) renew();
});
renew();
