/* A quiz says at once whether a choice is right, and why. */
document.querySelectorAll(".kc-quiz").forEach(function (question) {
  const told = question.querySelector(".kc-quiz-told");
  question.addEventListener("change", function (event) {
    const right = event.target.dataset.right === "true";
    told.textContent = (right ? "Right. " : "Not quite. ") + event.target.dataset.why;
    told.dataset.right = String(right);
  });
});
