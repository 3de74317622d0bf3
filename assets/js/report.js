// DARK, the dark template, is defined by the report. Draws the figures in the reader's light or dark, and tells of a
// token that is pressed.
const figures = JSON.parse(document.getElementById("molora-figures").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const touch = !window.matchMedia("(hover: hover)").matches;

function draw() {
  for (const name of Object.keys(figures)) {
    const { data, layout } = structuredClone(figures[name]);
    if (dark.matches) layout.template = DARK;
    if (touch) layout.dragmode = false; // a finger on the figure scrolls the page
    Plotly.react(name, data, layout, { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover", showSendToCloud: false });
  }
}

dark.addEventListener("change", draw);
draw();

const strip = document.querySelector(".strip");
strip.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-t]");
  if (!button) return;
  strip.querySelector("[aria-pressed]")?.removeAttribute("aria-pressed");
  button.setAttribute("aria-pressed", "true");
  document.getElementById("token-line").textContent = button.title;
});
strip.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const all = [...strip.querySelectorAll("button[data-t]")];
  const target = all[all.indexOf(event.target) + step];
  if (!target) return;
  event.preventDefault();
  target.focus();
  target.click();
});
