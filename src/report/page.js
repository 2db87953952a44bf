'use strict';
// What the page gains by script: one choice of each picker is seen, and texts have a button that copies them.
// Without script all choices are seen. (No less-than sign and no ampersand: the page is XML too.)
(function () {
  const make = (name, properties, children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...(children || []));
    return element;
  };

  const pickers = Array.from(document.querySelectorAll('.picker'), (root) => {
    const choices = Array.from(root.children);
    const label = root.dataset.label;
    const select = make('select', {}, choices.map((choice) => make('option', { textContent: choice.dataset.name })));
    const back = make('button', { type: 'button', textContent: '\u2190 Previous' });
    const next = make('button', { type: 'button', textContent: 'Next \u2192' });
    const news = make('span', { className: 'seen' });
    news.setAttribute('aria-live', 'polite');
    const hint = make('span', { textContent: 'or the arrow keys' });
    hint.setAttribute('aria-hidden', 'true');
    const controls = make('div', { className: 'controls' },
      [back, make('label', {}, [label + ' ', select]), next, hint, news]);
    controls.setAttribute('role', 'group');
    controls.setAttribute('aria-label', label);
    let current = 0;
    const show = (index, quietly) => {
      current = Math.max(0, Math.min(choices.length - 1, index));
      choices.forEach((choice, i) => { choice.hidden = i !== current; });
      select.selectedIndex = current;
      back.disabled = current === 0;
      next.disabled = current === choices.length - 1;
      if (!quietly) news.textContent = choices[current].dataset.name;
    };
    select.addEventListener('change', () => show(select.selectedIndex));
    back.addEventListener('click', () => show(current - 1));
    next.addEventListener('click', () => show(current + 1));
    root.before(controls);
    show(Number(root.dataset.first), true);
    return { root, choices, show, step: (by) => show(current + by) };
  });

  const isSeen = (picker) => {
    const box = picker.root.getBoundingClientRect();
    return box.bottom > 0 ? window.innerHeight > box.top : false;
  };
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'ArrowLeft') { if (event.key !== 'ArrowRight') return; }
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest('select, input, textarea, pre, .scroll')) return;
    const picker = pickers.find(isSeen);
    if (!picker) return;
    picker.step(event.key === 'ArrowLeft' ? -1 : 1);
    event.preventDefault();
  });

  // A link to something inside of a choice shows that choice.
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (const picker of pickers) {
      const index = picker.choices.findIndex((choice) => choice.contains(target));
      if (index !== -1) { picker.show(index); target.scrollIntoView(); }
    }
  };
  window.addEventListener('hashchange', follow);
  follow();

  const copied = async (pre) => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      return true;
    } catch (refused) {
      const range = document.createRange();
      range.selectNodeContents(pre);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      return document.execCommand('copy');
    }
  };
  for (const box of document.querySelectorAll('.copy')) {
    const button = make('button', { type: 'button', textContent: 'Copy' });
    button.setAttribute('aria-label', 'Copy ' + (box.dataset.name || 'this text'));
    button.addEventListener('click', async () => {
      button.textContent = (await copied(box.querySelector('pre'))) ? 'Copied' : 'Selected';
      setTimeout(() => { button.textContent = 'Copy'; }, 2000);
    });
    box.append(button);
  }

  // In print the numbers stand below their pictures.
  let opened = [];
  window.addEventListener('beforeprint', () => {
    opened = Array.from(document.querySelectorAll('details.numbers:not([open])'));
    for (const details of opened) details.open = true;
  });
  window.addEventListener('afterprint', () => { for (const details of opened) details.open = false; });
})();
