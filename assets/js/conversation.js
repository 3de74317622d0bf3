// Example questions are buttons; the log follows a growing answer unless the reader has scrolled up. A click on a word
// of the last question or of its answer chooses its token, and the chosen token's text is marked. Offsets count
// characters, not UTF-16 units.
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
  const [part, ...span] = chosen?.span ?? [];
  const text = element.querySelector(`.said[data-part="${part}"]`)?.firstChild;
  if (!chosen?.marked || !text || text.nodeType !== Node.TEXT_NODE || !window.Highlight) return;
  const [from, to] = span.map((count) => [...text.data].slice(0, count).join("").length);
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
  const said = event.target.closest(".said[data-part]");
  const text = said?.firstChild;
  if (!text || !getSelection().isCollapsed) return; // text that is being copied is no choice
  const units = unitsBefore(event, text);
  if (units < 0) return;
  window.molora?.still();
  const at = [...text.data.slice(0, units)].length;
  trigger("word", { part: said.dataset.part, at, when: window.molora?.stamp() });
});
document.addEventListener("molora-chosen", mark);
watch("value", () => {
  mark();
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
});
