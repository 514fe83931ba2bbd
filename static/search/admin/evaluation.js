// Sliders beside the two distances; what they would do is asked of the server while they move.
(() => {
  "use strict";

  const PAUSE_MS = 150;
  const LOGIN = "Your session has ended. Log in again; nothing was changed.";

  const { AWAY, SessionEnded, ask } = window.visearchTalk;
  const form = document.querySelector("[data-limits]");
  if (!form) return;

  let timer = 0;
  let asked = 0;

  function tell(words) {
    const said = document.createElement("p");
    said.className = "vs-notice";
    said.setAttribute("role", "alert");
    said.textContent = words;
    document.querySelector("[data-preview]").replaceChildren(said);
  }

  async function look() {
    const number = ++asked;
    const fields = new URLSearchParams({ same: form.elements.same.value, near: form.elements.near.value });
    try {
      const response = await ask(`${form.dataset.previewUrl}?${fields}`, { headers: { Accept: "text/html" } });
      if (!response.ok) throw new Error(String(response.status));
      const answer = new DOMParser().parseFromString(await response.text(), "text/html");
      if (number !== asked) return; // a later one is on its way
      document.querySelector("[data-preview]").replaceWith(answer.querySelector("[data-preview]"));
    } catch (error) {
      if (number === asked) tell(error instanceof SessionEnded ? LOGIN : AWAY);
    }
  }

  function lookSoon() {
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE_MS);
  }

  for (const slider of form.querySelectorAll("[data-slider]")) {
    const field = form.elements[slider.dataset.slider];
    slider.min = 0;
    slider.max = form.dataset.last;
    slider.step = form.dataset.step;
    slider.value = field.value || 0;
    slider.hidden = false;
    slider.addEventListener("input", () => {
      field.value = Number(slider.value).toFixed(4);
      lookSoon();
    });
    field.addEventListener("input", () => {
      slider.value = field.value || 0;
      lookSoon();
    });
  }
})();
