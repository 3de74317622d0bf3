// A message goes after a while, so that the next one, even the same, is news.
let timer = 0;
watch("value", () => {
  clearTimeout(timer);
  if (props.value) timer = setTimeout(() => { props.value = ""; }, 6000);
});
