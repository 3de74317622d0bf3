// What concerns the whole page: light or dark, and Escape to stop.
() => {
  const settle = () => {
    // What lies around Gradio's own ground: the page's edges when a phone overscrolls, and scrollbars.
    document.documentElement.style.colorScheme = document.body.classList.contains("dark") ? "dark" : "light";
    document.body.style.background = "var(--body-background-fill)";
  };
  const remembered = localStorage.getItem("molora-theme");
  if (remembered) document.body.classList.toggle("dark", remembered === "dark");
  settle();
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme-toggle")) return;
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("molora-theme", dark ? "dark" : "light");
    settle();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const stop = document.querySelector("#stop");
    if (stop && stop.offsetParent) stop.click();
  });
};
