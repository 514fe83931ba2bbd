// Brings the page of all jobs up to date, by asking for the page itself; without this file it is loaded again by hand.
(() => {
  "use strict";

  const BUSY_MS = 5000;
  const IDLE_MS = 10000;
  const SHARE = 10; // the server works at most a tenth of the time for this page
  const PARTS = ["[data-overview]", "#changelist-form"];

  async function renew() {
    const response = await window.visearchTalk.ask(window.location.href, { headers: { Accept: "text/html" } });
    if (!response.ok) throw new Error(String(response.status));
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const part of PARTS) {
      const [here, there] = [document.querySelector(part), page.querySelector(part)];
      if (here && there && here.textContent !== there.textContent) here.replaceWith(document.importNode(there, true));
    }
  }

  function isBusy() {
    const shown = document.querySelector("[data-overview]");
    return shown !== null && shown.dataset.busy === "1";
  }

  // Whoever is on a link by keyboard would lose their place.
  function isUsed() {
    return PARTS.some((part) => document.querySelector(part)?.contains(document.activeElement));
  }

  async function follow() {
    let took = 0;
    for (;;) {
      const pause = Math.max(isBusy() ? BUSY_MS : IDLE_MS, SHARE * took);
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (document.hidden || isUsed()) continue;
      const began = Date.now();
      try {
        await renew();
      } catch (error) {
        if (error instanceof window.visearchTalk.SessionEnded) return; // the next click leads to the login
      }
      took = Date.now() - began;
    }
  }

  function begin() {
    // Unfold's script would look for its own text field beside these.
    for (const input of document.querySelectorAll("input[type=file]")) input.hasChangeListener = true;
    if (document.querySelector("[data-overview]")) follow();
  }

  // The list of jobs has this file in its head, without `defer`.
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
