// The sentences come when the panel opens, as JSON, and are shown as text; Copy takes them as they stand.
const button = element.querySelector("#run-words");
const panel = element.querySelector("#run-words-panel");
const list = panel.querySelector("ul");
const copy = panel.querySelector("#copy-words");
const said = panel.querySelector("[role=status]");

function show(open) {
  panel.hidden = !open;
  button.setAttribute("aria-expanded", String(open));
  said.textContent = "";
}

button.addEventListener("click", () => {
  show(panel.hidden);
  if (!panel.hidden) trigger("tell", {});
});
element.addEventListener("keydown", (event) => {
  if (panel.hidden || event.key !== "Escape") return;
  event.stopPropagation(); // Escape on the page stops the answer
  show(false);
  button.focus();
});
document.addEventListener("pointerdown", (event) => {
  if (!element.contains(event.target)) show(false);
});

// Browsers give the clipboard to secure pages only; elsewhere a selection is copied the old way.
function copied(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.setAttribute("readonly", "");
  panel.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  copy.focus();
  return done;
}

copy.addEventListener("click", async () => {
  const text = [...list.children].map((line) => line.textContent).join("\n");
  let done = false;
  try {
    await navigator.clipboard.writeText(text);
    done = true;
  } catch {
    done = copied(text);
  }
  said.textContent = done ? copy.dataset.done : copy.dataset.failed;
});

watch("value", () => {
  if (!props.value) return;
  list.replaceChildren(...JSON.parse(props.value).map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
  props.value = "";
});
