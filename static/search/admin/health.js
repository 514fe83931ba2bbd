// Follows builds of indexes; the page is loaded again when one has ended, so that its figures are the new ones.
(() => {
  "use strict";

  const POLL_MS = 1000;
  const POLL_SLOWLY_MS = 8000;
  const LOGIN = "Your session has ended. Log in again; the build goes on meanwhile.";

  const { AWAY, SessionEnded, ask } = window.visearchTalk;
  const root = document.querySelector("[data-health]");
  const trouble = document.querySelector("[data-trouble]");

  function tell(words) {
    trouble.textContent = words;
    trouble.hidden = !words;
  }

  function show(panel, running) {
    const building = panel.querySelector("[data-building]");
    if (!building) return;
    building.hidden = false;
    const bar = building.querySelector("[data-bar]");
    if (running.done > 0) {
      bar.max = running.total;
      bar.value = running.done;
    } else bar.removeAttribute("value"); // under way, nobody knows how far
    building.querySelector("[data-step]").textContent = running.step;
    building.querySelector("[data-rows]").textContent = running.total ? `${running.done} of ${running.total}` : "";
    building.querySelector("[data-left]").textContent = running.left;
  }

  async function look() {
    const response = await ask(root.dataset.stateUrl);
    if (!response.ok) throw new Error(String(response.status));
    const { pipelines } = await response.json();
    for (const { pipeline, running } of pipelines) {
      if (running) show(root.querySelector(`[data-pipeline="${CSS.escape(pipeline)}"]`), running);
    }
    return pipelines.some((each) => each.running);
  }

  async function follow() {
    for (;;) {
      let pause = POLL_MS;
      try {
        const isBusy = await look();
        tell("");
        if (!isBusy) break;
      } catch (error) {
        tell(error instanceof SessionEnded ? LOGIN : AWAY);
        pause = POLL_SLOWLY_MS;
      }
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
    window.location.reload();
  }

  if (root && root.dataset.busy) follow();
})();
