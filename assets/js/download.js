// One button opens the menu. The server sends a file's name, kind and base64 content, and the browser saves it; of a
// figure it sends the name and "svg" or "png" alone, and the browser draws it.
const button = element.querySelector("#download");
const menu = element.querySelector("#download-menu");
const items = [...menu.querySelectorAll("button")];

function show(open) {
  menu.hidden = !open;
  button.setAttribute("aria-expanded", String(open));
}

button.addEventListener("click", () => {
  show(menu.hidden);
  if (!menu.hidden) items[0].focus();
});
menu.addEventListener("click", (event) => {
  const item = event.target.closest("button[data-file]");
  if (!item) return;
  show(false);
  button.focus();
  trigger("save", { file: item.dataset.file });
});
element.addEventListener("keydown", (event) => {
  if (menu.hidden) return;
  const at = items.indexOf(document.activeElement);
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (event.key === "Escape") {
    event.stopPropagation(); // Escape on the page stops the answer
    show(false);
    button.focus();
  } else if (next !== undefined) {
    event.preventDefault();
    items[(next + items.length) % items.length].focus();
  }
});
document.addEventListener("pointerdown", (event) => {
  if (!element.contains(event.target)) show(false);
});
element.addEventListener("focusout", (event) => {
  if (event.relatedTarget && !element.contains(event.relatedTarget)) show(false);
});

function save(name, href) {
  const link = document.createElement("a");
  link.href = href;
  link.download = name;
  link.click();
}

async function picture(name, format) {
  const plot = [...document.querySelectorAll(".figure .js-plotly-plot")].find((one) => one.offsetParent && !one.closest("#glance, #overview"));
  if (!plot) return;
  const ground = getComputedStyle(document.body).backgroundColor;
  const figure = { data: plot.data, layout: { ...plot.layout, paper_bgcolor: ground } };
  const { clientWidth: width, clientHeight: height } = plot;
  save(name, await Plotly.toImage(figure, { format, width, height, scale: format === "png" ? 2 : 1 }));
}

watch("value", () => {
  if (!props.value) return;
  const { name, kind, content } = JSON.parse(props.value);
  props.value = "";
  if (content === null) return picture(name, kind);
  const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
  const href = URL.createObjectURL(new Blob([bytes], { type: kind }));
  save(name, href);
  setTimeout(() => URL.revokeObjectURL(href), 10000);
});
