// MOST, the bytes a file may have, and WHERE it is sent are defined by the page. The file goes to the server's memory,
// never to its disk; the event then names the word that the server gave for it: "" for a file that is not sent at all,
// null for one that did not arrive.
const input = element.querySelector("input");

element.querySelector("button").addEventListener("click", () => input.click());
input.addEventListener("change", async () => {
  const file = input.files[0];
  input.value = ""; // the same file may be opened again
  if (!file) return;
  let word = "";
  if (file.size && file.size <= MOST) {
    const answer = await fetch(WHERE, { method: "POST", body: file }).catch(() => null);
    word = answer?.ok ? await answer.text() : null;
  }
  trigger("opened", { name: file.name, word });
});
