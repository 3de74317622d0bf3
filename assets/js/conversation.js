// Example questions are buttons; the log follows a growing answer unless the reader has scrolled up.
const scroller = element.querySelector(".scroller");
let atEnd = true;

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-q]");
  if (button) trigger("example", { index: Number(button.dataset.q) });
});
scroller.addEventListener("scroll", () => {
  atEnd = scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 24;
});
watch("value", () => {
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
});
