// What concerns the whole page: light or dark, and Escape to stop.
() => {
  const remembered = localStorage.getItem("molora-theme");
  if (remembered) document.body.classList.toggle("dark", remembered === "dark");
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme-toggle")) return;
    const dark = document.body.classList.toggle("dark");
    localStorage.setItem("molora-theme", dark ? "dark" : "light");
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const stop = document.querySelector("#stop");
    if (stop && stop.offsetParent) stop.click();
  });
};
