// DARK, the dark template, and KEYS, whether arrows walk over its cells, are defined by the page.
// One element for the life of the page: Plotly.react changes what differs, so nothing flickers. The reader's zoom is
// kept here, because Plotly's own uirevision gives it up when an axis grows or, at the end, shrinks to the answer.
const plot = element.querySelector(".plot");
const touch = !window.matchMedia("(hover: hover)").matches;
// Plotly's own dictionary belongs to its config, and a change of that would take the listeners away.
const CHINESE = { "Download plot as a PNG": "下载 PNG 图片", Zoom: "缩放", Pan: "平移", "Reset axes": "重置坐标轴" };
function name() {
  plot.setAttribute("aria-label", props.label);
  for (const button of plot.querySelectorAll(".modebar-btn")) {
    const english = (button.dataset.english ??= button.dataset.title);
    const title = document.documentElement.lang === "zh-CN" ? (CHINESE[english] ?? english) : english;
    button.dataset.title = title;
    button.setAttribute("aria-label", title);
  }
}
name();
watch("label", name);
let shown = [0, 0];
let sent = {}; // axis -> the range that the last figure asked for
let view = null;

function ranges(layout) {
  const axes = Object.keys(layout).filter((key) => /^[xy]axis/.test(key) && layout[key].range);
  return Object.fromEntries(axes.map((axis) => [axis, [...layout[axis].range]]));
}

function zoomed(axis) {
  const now = plot._fullLayout?.[axis]?.range;
  return now && sent[axis] && now.some((end, at) => Math.abs(end - sent[axis][at]) > 1e-6);
}

function reset() {
  Plotly.relayout(plot, Object.fromEntries(Object.entries(sent).map(([axis, range]) => [`${axis}.range`, [...range]])));
}

function draw() {
  if (!props.value || !plot.clientWidth) {
    shown = [0, 0]; // a hidden tab has no width; the ResizeObserver draws it when it opens
    return;
  }
  const { data, layout } = JSON.parse(props.value);
  for (const part of data) {
    // Each token's text comes once and stands for all layers.
    if (part.type === "heatmap" && part.text?.length === 1) part.text = part.y.map(() => part.text[0]);
  }
  // A figure of many rows keeps them apart, and its tab scrolls.
  const least = layout.meta?.least ?? 0;
  for (const box of [plot, element.closest(".block")]) box.style.minHeight = least ? `${least}px` : "";
  const size = [plot.clientWidth, plot.clientHeight];
  if (document.body.classList.contains("dark")) layout.template = DARK;
  [layout.width, layout.height] = size;
  if (touch) layout.dragmode = false; // a finger on the figure scrolls the page
  const asked = ranges(layout);
  if (layout.uirevision === view) {
    for (const axis in asked) if (zoomed(axis)) layout[axis].range = [...plot._fullLayout[axis].range];
  }
  layout.shapes = marks(data, layout);
  const first = !plot.classList.contains("js-plotly-plot");
  shown = size;
  sent = asked;
  view = layout.uirevision;
  Plotly.react(plot, data, layout, {
    displaylogo: false,
    displayModeBar: touch ? false : "hover",
    doubleClick: false,
    showSendToCloud: false, // Plotly 4 offers to upload the figure to its cloud
    modeBarButtons: [["toImage"], ["zoom2d", "pan2d", { name: "reset", title: "Reset axes", icon: Plotly.Icons.home, click: reset }]],
  });
  name();
  if (first) {
    plot.on("plotly_click", ({ points: [point] }) => {
      const { rows, columns, from } = plot.layout.meta ?? {};
      if (point.data.type !== "heatmap") return;
      const row = columns ? columns[Math.round(point.x) - from] : Math.round(point.x);
      const cell = { layer: String(point.y).slice(0, 20), name: String(point.data.name ?? "").slice(0, 40) };
      const choice = rows || columns;
      if (choice) window.molora?.choose({ row, ...cell });
      trigger("cell", { row, y: cell.layer, name: cell.name, when: choice ? window.molora?.stamp() : null });
    });
    plot.on("plotly_doubleclick", reset);
    plot.addEventListener("click", gap);
  }
}

// Plotly passes over a column that only one of two runs has; -1 is one that the first has not.
function gap({ target, clientX }) {
  const { columns, from } = plot.layout.meta ?? {};
  if (!columns || !target.closest?.(".nsewdrag")) return;
  const { xaxis } = plot._fullLayout;
  const at = Math.round(xaxis.p2l(clientX - plot.getBoundingClientRect().left - xaxis._offset)) - from;
  const cells = plot.calcdata.find(([part]) => part.z)?.[0].z[0] ?? [];
  if (!(at in columns) || Number.isFinite(cells[at])) return;
  const row = columns[at];
  if (row >= 0) window.molora?.choose({ row, layer: null, name: null });
  trigger("cell", { row, when: row >= 0 ? window.molora?.stamp() : null });
}

// A browser that cannot keep up with the stream draws the newest figure and leaves out those between.
const whenIdle = window.requestIdleCallback ?? ((work) => setTimeout(work, 20));
let due = false;
watch("value", () => {
  if (due) return;
  due = true;
  whenIdle(() => {
    due = false;
    draw();
  }, { timeout: 1000 });
});
document.addEventListener("molora-chosen", () => {
  if (!plot.layout || !shown[0]) return; // what is drawn later has its marks then
  const shapes = marks(plot.data, plot.layout);
  if (JSON.stringify(shapes) !== JSON.stringify(plot.layout.shapes)) Plotly.relayout(plot, { shapes });
});
if (KEYS) plot.addEventListener("keydown", walk);
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
