// Buttons that name an expert or a token; a token's event is called as the strip's is.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-e], button[data-t]");
  if (!button) return;
  if (button.dataset.t) {
    window.molora?.choose({ row: Number(button.dataset.t), layer: null, name: null });
    trigger("pick", { row: Number(button.dataset.t), when: window.molora?.stamp() });
  } else trigger("expert", { expert: Number(button.dataset.e) });
});

// A token that is chosen anywhere is pressed here, too.
function mark() {
  const row = window.molora?.chosen?.row;
  for (const button of element.querySelectorAll("button[data-t]")) {
    if (Number(button.dataset.t) === row) button.setAttribute("aria-pressed", "true");
    else button.removeAttribute("aria-pressed");
  }
}

document.addEventListener("molora-chosen", mark);
watch("value", mark);
