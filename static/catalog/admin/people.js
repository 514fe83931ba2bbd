// Offers names of people while one is typed: any input with data-names (the address that knows them) and a list.
"use strict";
(() => {
  for (const input of document.querySelectorAll("input[data-names]")) {
    let last = "";
    let timer = 0;
    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(async () => {
        const text = input.value.trim();
        if (!text || text === last) return;
        last = text;
        try {
          const address = `${input.dataset.names}?q=${encodeURIComponent(text)}`;
          const answer = await fetch(address, { headers: { Accept: "application/json" }, redirect: "error" });
          const { people } = await answer.json();
          input.list.replaceChildren(...people.map((name) => new Option(name, name)));
        } catch {
          // Without offers a name can still be typed.
        }
      }, 150);
    });
  }
})();
