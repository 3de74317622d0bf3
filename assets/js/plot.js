// DARK, the dark template, is defined by the page.
// One element for the life of the page: Plotly.react changes what differs, so zoom stays and nothing flickers.
const plot = element.querySelector(".plot");
const touch = !window.matchMedia("(hover: hover)").matches;
let shown = [0, 0];

function draw() {
  const size = [plot.clientWidth, plot.clientHeight];
  if (!props.value || !size[0]) return; // a hidden tab has no width; the ResizeObserver draws it when it opens
  const figure = JSON.parse(props.value);
  if (document.body.classList.contains("dark")) figure.layout.template = DARK;
  figure.layout.width = size[0];
  figure.layout.height = size[1];
  if (touch) figure.layout.dragmode = false; // a finger on the figure scrolls the page
  const first = !plot.classList.contains("js-plotly-plot");
  shown = size;
  Plotly.react(plot, figure.data, figure.layout, {
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
  });
  if (first) plot.on("plotly_click", (event) => trigger("cell", { row: Math.round(event.points[0].x) }));
}

watch("value", draw);
new ResizeObserver(() => {
  if (plot.clientWidth !== shown[0] || plot.clientHeight !== shown[1]) draw();
}).observe(plot);
let dark = document.body.classList.contains("dark");
new MutationObserver(() => {
  if (document.body.classList.contains("dark") === dark) return;
  dark = !dark;
  draw();
}).observe(document.body, { attributes: true, attributeFilter: ["class"] });
draw();
