// Search and the buttons that move the window. Enter goes on to the next match, Shift+Enter back.
const box = element.querySelector("#seek");
let sought = "";

function seek(step) {
  window.molora?.still();
  trigger("seek", { text: box.value, step: box.value === sought ? step : Math.min(step - 1, 0) });
  sought = box.value;
}

box.addEventListener("keydown", (event) => {
  if (event.key === "Enter") {
    event.preventDefault();
    seek(event.shiftKey ? -1 : 1);
  } else if (event.key === "Escape" && box.value) {
    event.stopPropagation(); // Escape on the page stops the answer
    box.value = sought = "";
  }
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { seek: step, to } = button.dataset;
  if (step) seek(Number(step));
  else if (to) trigger("move", { to });
  else {
    window.molora?.still();
    trigger("answer");
  }
});
