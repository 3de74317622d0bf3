// MOST, the bytes a file may have, is defined by the page. The file is read here and sent with the event, so that the
// server never writes it to its disk.
const input = element.querySelector("input");

element.querySelector("button").addEventListener("click", () => input.click());
input.addEventListener("change", () => {
  const file = input.files[0];
  input.value = ""; // the same file may be opened again
  if (!file) return;
  const send = (content) => trigger("opened", { name: file.name, content });
  if (file.size > MOST) return send("");
  const reader = new FileReader();
  reader.onload = () => send(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => send("");
  reader.readAsDataURL(file);
});
