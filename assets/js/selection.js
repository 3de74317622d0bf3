// The one place that knows what is chosen: it takes the server's word, or a key's or a click's at once, and tells the
// strip, the maps and the conversation, which mark it where they stand. `pending` holds back the server's word about
// an earlier choice while the reader is still walking.
const shared = (window.molora ??= { chosen: null, pending: false });

function tell() {
  document.dispatchEvent(new Event("molora-chosen"));
}

shared.choose = (change) => {
  shared.chosen = { ...shared.chosen, ...change, marked: true };
  tell();
};

function take() {
  if (!props.value) return;
  const said = JSON.parse(props.value);
  const { row, layer, name, marked } = shared.chosen ?? {};
  shared.chosen = shared.pending ? { ...said, row, layer, name, marked } : said;
  document.body.classList.toggle("windowed", said.narrow);
  tell();
}

watch("value", take);
take();
