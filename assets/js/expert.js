// Buttons that name an expert or a token; a token's event is called as the strip's is.
element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-e], button[data-t]");
  if (!button) return;
  if (button.dataset.t) trigger("pick", { row: Number(button.dataset.t) });
  else trigger("expert", { expert: Number(button.dataset.e) });
});
