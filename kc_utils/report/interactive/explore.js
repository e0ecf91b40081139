/* Which facts survived a recipe, which were lost, which appeared: reads the answers beside it and lists them. */
(function () {
  "use strict";
  const { unique, fill, element, read } = window.kc;
  const box = document.getElementById("kc-explore");
  const sets = read("kc-explore-data");
  const names = { "11": "survived", "10": "lost", "01": "appeared", "00": "not known before or after" };
  const order = ["10", "01", "11", "00"];
  const EVERY = "every relation";
  const MOST = 200;
  const control = (name) => box.querySelector("[name=" + name + "]");
  const [model, question, recipe, relation, fate] = ["model", "question", "recipe", "relation", "fate"].map(control);
  const list = box.querySelector("tbody");
  const summary = box.querySelector(".kc-answer");

  const set = () => sets.find((s) => s.model === model.value && s.question === question.value);

  function newModel() {
    fill(question, sets.filter((s) => s.model === model.value).map((s) => s.question));
    newQuestion();
  }

  function newQuestion() {
    fill(recipe, Object.keys(set().right).filter((r) => r !== "none"));
    fill(relation, [EVERY, ...unique(set().facts.map((f) => f[0])).sort()]);
    draw();
  }

  function draw() {
    const { facts, right } = set();
    const all = facts.map((f, n) => ({ fact: f, fate: right.none[n] + right[recipe.value][n] }));
    const here = all.filter((f) => relation.value === EVERY || f.fact[0] === relation.value);
    const count = (key) => here.filter((f) => f.fate === key).length;
    summary.replaceChildren(element("p", "Of " + here.length + " facts, " + order.map((k) => count(k) + " " + names[k]).join(", ") + "."));
    const wanted = here.filter((f) => fate.value === "all" || names[f.fate] === fate.value);
    wanted.sort((a, b) => order.indexOf(a.fate) - order.indexOf(b.fate));
    list.replaceChildren(...wanted.slice(0, MOST).map((f) => element("tr",
      ...[...f.fact, names[f.fate]].map((text) => element("td", text)))));
    if (wanted.length > MOST) {
      summary.append(element("p", "The first " + MOST + " of " + wanted.length + " are listed; choose a relation to see fewer."));
    }
  }

  fill(model, unique(sets.map((s) => s.model)));
  fill(fate, ["all", ...order.map((k) => names[k])]);
  newModel();
  model.addEventListener("change", newModel);
  question.addEventListener("change", newQuestion);
  [recipe, relation, fate].forEach((select) => select.addEventListener("change", draw));
  box.hidden = false;
})();
