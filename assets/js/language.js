// The switch between English and Chinese. The choice is remembered; before there is one, the browser's own languages
// decide, which are those that it asks for in Accept-Language. The server sends the page's words anew.
function speak(to) {
  document.documentElement.lang = to === "zh" ? "zh-CN" : "en";
  trigger("speak", { to });
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("#language");
  if (!button) return;
  localStorage.setItem("molora-language", button.dataset.to);
  speak(button.dataset.to);
});
const preferred = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag === "en" || tag === "zh");
const wanted = localStorage.getItem("molora-language") ?? preferred;
document.documentElement.lang = "en";
if (wanted === "zh") speak("zh");
