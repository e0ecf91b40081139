/* What the interactive pages share: lists to choose from, numbers in words, elements with text. */
window.kc = {
  unique: (values) => [...new Set(values)],
  percent: (x) => String(Math.round(100 * x) || 0).replace("-", "\u2212") + " %",
  megabytes: (x) => (x < 10 ? x.toFixed(2) : x.toFixed(0)) + " MB",
  read: (id) => JSON.parse(document.getElementById(id).textContent),
  fill: function (select, values) {
    const before = select.value;
    select.replaceChildren(...values.map((v) => new Option(v, v)));
    if (values.includes(before)) select.value = before;
  },
  element: function (name, ...content) {
    const made = document.createElement(name);
    made.append(...content);
    return made;
  },
};
