// Follows a worker that teaches or computes; the page is loaded again when it has ended, so that it says what came of it.
(() => {
  "use strict";

  const POLL_MS = 1500;
  const root = document.querySelector("[data-teach]");
  const { SessionEnded, ask } = window.visearchTalk;

  async function follow() {
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      try {
        const response = await ask(root.dataset.stateUrl);
        const { busy } = await response.json();
        const lines = root.querySelectorAll("[data-busy-with]");
        if (busy.length !== lines.length) break; // something has ended, or begun
        lines.forEach((line, number) => (line.textContent = busy[number]));
      } catch (error) {
        if (error instanceof SessionEnded) break; // the page asks to log in
      }
    }
    window.location.reload();
  }

  if (root && root.dataset.busy) follow();
})();
