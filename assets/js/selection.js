// The one place that knows what is chosen: it takes the server's word, or a key's or a click's at once, and tells the
// strip, the maps and the conversation, which mark it where they stand. `pending` holds back the server's word about
// an earlier choice while the reader is still walking.
const shared = (window.molora ??= { chosen: null, pending: false, sent: 0 });
let rest = 0;

function tell() {
  document.dispatchEvent(new Event("molora-chosen"));
}

// A choice ends a walk that has not come to rest, so that it is not overtaken by it.
shared.still = () => {
  clearTimeout(rest);
  shared.pending = false;
};

shared.choose = (change) => {
  shared.still();
  shared.chosen = { ...shared.chosen, ...change, span: null, marked: true };
  tell();
};

// When a choice was made: its event says so, and the server's word about an earlier one is known by it.
shared.stamp = () => {
  shared.sent = performance.now();
  return shared.sent;
};

// A step of a walk; where it rests, the server is told.
shared.walk = (change, send) => {
  shared.choose(change);
  shared.pending = true;
  rest = setTimeout(() => {
    shared.pending = false;
    send();
  }, 120);
};

function take() {
  if (!props.value) return;
  const said = JSON.parse(props.value);
  const { row, layer, name, marked, span } = shared.chosen ?? {};
  const earlier = shared.pending || (said.when < shared.sent && performance.now() - shared.sent < 3000);
  shared.chosen = earlier ? { ...said, row, layer, name, marked, span } : said;
  document.body.classList.toggle("windowed", said.narrow);
  tell();
}

watch("value", take);
take();
