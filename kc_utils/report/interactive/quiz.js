/* A quiz says at once whether a choice is right, and why. The answer that is there to unfold is for paper and for readers
   without scripts: a question that is live hides it on the screen. */
document.querySelectorAll(".kc-quiz:not(.kc-live)").forEach(function (question) {
  const said = question.querySelector(".kc-quiz-said");
  question.classList.add("kc-live");
  question.addEventListener("change", function (event) {
    const right = event.target.dataset.right === "true";
    said.textContent = (right ? "Right. " : "Not quite. ") + event.target.dataset.why;
    said.dataset.right = String(right);
  });
});
