"use strict";
(() => {
  const main = document.querySelector("main");

  // A choice is made once: the buttons rest while it is carried out.
  for (const form of document.forms) {
    form.addEventListener("submit", () => {
      for (const button of document.querySelectorAll("button")) button.disabled = true;
      document.querySelector("[role=status]").textContent = form.dataset.progress;
    });
  }

  // The browser's back button may show a page of before.
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });

  const lookAgain = async () => {
    try {
      const answer = await fetch(location.pathname + "/stage");
      if ((await answer.json()).stage !== main.dataset.stage) return location.reload();
    } catch {
      // The sandbox may be starting anew.
    }
    setTimeout(lookAgain, 500);
  };
  if (main.dataset.passing === "true") setTimeout(lookAgain, 500);
})();
