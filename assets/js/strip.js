// Click chooses a token; arrows, Home and End walk through the tokens and choose the one where they rest.
const scroller = element.querySelector(".scroller");
let atEnd = true;
let walking = false; // the focus is in the strip

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-t]");
  if (!button) return;
  const row = Number(button.dataset.t);
  window.molora?.choose({ row, layer: null, name: null });
  trigger("pick", { row, when: window.molora?.stamp() });
});
document.addEventListener("focusin", (event) => {
  walking = element.contains(event.target);
});
document.addEventListener("pointerdown", (event) => {
  walking = walking && element.contains(event.target);
});

element.addEventListener("keydown", (event) => {
  const button = event.target.closest("button[data-t]");
  if (!button) return;
  const { low = 0, high = 0 } = window.molora?.chosen ?? {};
  const at = Number(button.dataset.t);
  const next = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: low, End: high - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const back = next < at;
  const all = [...element.querySelectorAll("button[data-t]")];
  const target = back ? all.findLast((one) => one.dataset.t <= Math.max(next, low)) : all.find((one) => one.dataset.t >= Math.min(next, high - 1));
  // Beyond the window the server moves it and its buttons come with the answer.
  const row = target ? Number(target.dataset.t) : Math.min(Math.max(next, low), high - 1);
  target?.focus();
  window.molora?.walk({ row, layer: null, name: null }, () => trigger("pick", { row, when: window.molora.stamp() }));
});

// What is chosen anywhere is pressed here, and in sight.
document.addEventListener("molora-chosen", () => {
  const button = element.querySelector(`button[data-t="${window.molora.chosen.row}"]`);
  const before = element.querySelector("[aria-pressed]");
  if (!button || button === before) return;
  before?.removeAttribute("aria-pressed");
  element.querySelector('[tabindex="0"][data-t]')?.setAttribute("tabindex", "-1");
  button.setAttribute("aria-pressed", "true");
  button.setAttribute("tabindex", "0");
  show(button);
});

function show(button) {
  const inside = button.offsetTop; // the scroller is positioned
  if (inside < scroller.scrollTop) scroller.scrollTop = inside - 4;
  else if (inside + button.offsetHeight > scroller.scrollTop + scroller.clientHeight) {
    scroller.scrollTop = inside + button.offsetHeight - scroller.clientHeight + 4;
  }
}

// Follow a growing answer, unless the reader has scrolled up.
scroller.addEventListener("scroll", () => {
  atEnd = scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 12;
});
// The page changes the buttons it has into others, so the focus would stay at a place and not with the token.
new MutationObserver(() => {
  const active = document.activeElement;
  const here = active === document.body || (element.contains(active) && active.matches("button[data-t]"));
  if (walking && here) element.querySelector("[aria-pressed]")?.focus({ preventScroll: true });
}).observe(element, { childList: true, subtree: true, attributeFilter: ["data-t"] });
watch("value", () => {
  const pressed = element.querySelector("[aria-pressed]");
  if (pressed && document.body.classList.contains("windowed")) show(pressed);
  else if (atEnd && !element.contains(document.activeElement)) scroller.scrollTop = scroller.scrollHeight;
});
