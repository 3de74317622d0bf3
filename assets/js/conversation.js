// Example questions are buttons; the log follows a growing answer unless the reader has scrolled up. A click on a word
// of the answer chooses its token, and the chosen token's text is marked. Offsets count characters, not UTF-16 units.
const scroller = element.querySelector(".scroller");
let atEnd = true;

element.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-q]");
  if (button) trigger("example", { index: Number(button.dataset.q) });
});
scroller.addEventListener("scroll", () => {
  atEnd = scroller.scrollTop + scroller.clientHeight > scroller.scrollHeight - 24;
});

// The text stays as it is: a highlight paints it, and a browser without highlights leaves it out.
function mark() {
  window.CSS?.highlights?.delete("molora-token");
  const chosen = window.molora?.chosen;
  const text = element.querySelector(".said[data-answer]")?.firstChild;
  if (!chosen?.marked || !chosen.span || !text || text.nodeType !== Node.TEXT_NODE || !window.Highlight) return;
  const [from, to] = chosen.span.map((count) => [...text.data].slice(0, count).join("").length);
  if (to > text.length) return;
  const range = new Range();
  range.setStart(text, from);
  range.setEnd(text, to);
  CSS.highlights.set("molora-token", new Highlight(range));
}

function unitsBefore({ clientX, clientY }, text) {
  if (document.caretPositionFromPoint) {
    const spot = document.caretPositionFromPoint(clientX, clientY);
    return spot?.offsetNode === text ? spot.offset : -1;
  }
  const range = document.caretRangeFromPoint?.(clientX, clientY);
  return range?.startContainer === text ? range.startOffset : -1;
}

element.addEventListener("click", (event) => {
  const text = event.target.closest(".said[data-answer]")?.firstChild;
  if (!text || !getSelection().isCollapsed) return; // text that is being copied is no choice
  const units = unitsBefore(event, text);
  if (units >= 0) trigger("word", { at: [...text.data.slice(0, units)].length });
});
document.addEventListener("molora-chosen", mark);
watch("value", () => {
  mark();
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
});
