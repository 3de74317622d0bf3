// Click chooses a token; arrows, Home and End walk through the tokens and choose the one where they rest.
const scroller = element.querySelector(".scroller");
let atEnd = true;
let rest = 0;

function choose(button) {
  trigger("pick", { row: Number(button.dataset.t) });
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-t]");
  if (button) choose(button);
});

element.addEventListener("keydown", (event) => {
  const button = event.target.closest("button[data-t]");
  if (!button) return;
  const all = [...element.querySelectorAll("button[data-t]")];
  const at = all.indexOf(button);
  const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const target = all[Math.min(Math.max(next, 0), all.length - 1)];
  target.focus();
  clearTimeout(rest);
  rest = setTimeout(() => choose(target), 120);
});

// Follow a growing answer, unless the reader has scrolled up.
scroller.addEventListener("scroll", () => {
  atEnd = scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 12;
});
watch("value", () => {
  if (atEnd && !element.contains(document.activeElement)) scroller.scrollTop = scroller.scrollHeight;
});
