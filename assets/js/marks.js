// Marks of what is chosen on a figure, drawn in the browser at once: the token's column and the cell on a map, the
// window's frame on the overview. A figure's `meta` says which rows its columns are.
const MARKS = ["token", "cell", "window"];

function columnOf(row, { rows, columns, from }) {
  if (columns) return columns.includes(row) ? columns.indexOf(row) + from : -1;
  return rows && row >= rows[0] && row < rows[1] ? row : -1;
}

function marks(data, layout) {
  const meta = layout.meta ?? {};
  const chosen = window.molora?.chosen;
  const kept = layout.shapes ?? [];
  if (!chosen || !(meta.rows || meta.columns || meta.window)) return kept;
  const shapes = kept.filter(({ name }) => !MARKS.includes(name));
  const box = { type: "rect", layer: "above", xref: "x" };
  if (meta.window) {
    const frame = { x0: chosen.first - 0.5, x1: chosen.last - 0.5, y0: -0.04, y1: 1.04, yref: "paper" };
    return [...shapes, { ...box, ...frame, name: "window", line: { width: 2 } }];
  }
  const at = chosen.marked ? columnOf(chosen.row, meta) : -1;
  if (at < 0) return shapes;
  const column = { ...box, x0: at - 0.5, x1: at + 0.5 };
  shapes.push({ ...column, name: "token", y0: 0, y1: 1, yref: "paper" });
  const block = data.find(({ type, name }) => type === "heatmap" && name === chosen.name);
  const layer = block ? block.y.indexOf(chosen.layer) : -1;
  if (layer >= 0) {
    const cell = { ...column, name: "cell", y0: layer - 0.5, y1: layer + 0.5, yref: block.yaxis ?? "y" };
    shapes.push({ ...cell, line: { width: 5, color: "#ffffff" } }, { ...cell, line: { width: 2.5, color: "#000000" } });
  }
  return shapes;
}

// Arrows move the chosen cell, over the border of a block to the next projection; Home and End go to the first and
// the last token, Page keys move the window. The mark moves at once, and where the walk rests the server is told.
function walk(event) {
  const chosen = window.molora?.chosen;
  if (event.ctrlKey || event.altKey || event.metaKey || !chosen || chosen.row === null) return;
  const to = { PageUp: "back", PageDown: "on" }[event.key];
  const lines = (plot.data ?? []).filter(({ type }) => type === "heatmap").flatMap(({ y, name }) => y.map((layer) => ({ layer, name })));
  const across = { ArrowLeft: chosen.row - 1, ArrowRight: chosen.row + 1, Home: chosen.low, End: chosen.high - 1 }[event.key];
  const down = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  if (!to && across === undefined && down === undefined) return;
  event.preventDefault();
  if (to) return trigger("turn", { to });
  if (!lines.length) return;
  const at = lines.findIndex(({ layer, name }) => layer === chosen.layer && name === chosen.name);
  const line = lines[at < 0 ? 0 : Math.min(Math.max(at + (down ?? 0), 0), lines.length - 1)];
  const row = Math.min(Math.max(across ?? chosen.row, chosen.low), chosen.high - 1);
  const cell = { row, y: line.layer, name: line.name };
  window.molora.walk({ row, ...line }, () => trigger("cell", { ...cell, when: window.molora.stamp() }));
}
