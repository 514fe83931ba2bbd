// The faces of an image: choose one, say who it is or that it is none, draw, move and size its box.
"use strict";
(() => {
  const root = document.getElementById("faces");
  if (!root || !("mayChange" in root.dataset)) return;

  const { Refused, talk } = window.visearchTalk;
  const { offerNames } = window.visearchPeople;
  const { drawn, within, dragged } = window.visearchBoxes;
  const POLL = 2000; // milliseconds between two looks while the image is processed
  const find = (name) => root.querySelector(`[data-${name}]`);
  const stage = find("stage");
  const boxes = find("boxes");
  const panel = find("panel");
  const errorLine = find("error");
  const nameField = panel.querySelector("#face-name");
  const showDismissed = find("show-dismissed");

  let state = JSON.parse(document.getElementById("faces-state").textContent);
  let selected = null; // the id of the chosen face; "new" for one that is being drawn
  let draft = null; // { x, y, width, height } of a box that is not saved yet
  let drawing = false;
  let busy = false;
  let suggestedFor = null;

  // --- Talking to the server ------------------------------------------------------------------------------------

  function say(error) {
    if (!(error instanceof Refused)) throw error;
    errorLine.replaceChildren(error.message);
    if (error.login) {
      const link = document.createElement("a");
      link.href = root.dataset.login;
      link.target = "_blank";
      link.rel = "noopener";
      link.className = "vs-link";
      link.textContent = "Log in again";
      errorLine.append(" ", link, " (in a new tab), then try once more here.");
    }
    errorLine.hidden = false;
  }

  function quiet() {
    errorLine.hidden = true;
    errorLine.replaceChildren();
  }

  async function act(address, fields) {
    if (busy) return null; // a double click
    busy = true;
    panel.classList.add("is-busy");
    quiet();
    try {
      const answer = await talk(address, fields);
      take(answer);
      if (answer.error) throw new Refused(answer.error);
      return answer;
    } catch (error) {
      say(error);
      return null;
    } finally {
      busy = false;
      panel.classList.remove("is-busy");
    }
  }

  /** Last, as choosing another face says only how the image is. */
  function told(answer) {
    find("words").textContent = [answer.message, answer.words].filter(Boolean).join(" ");
  }

  function take(answer) {
    if (!answer.faces) return;
    state = answer;
    if (selected !== "new" && !face()) choose(null);
    render();
    fill(); // whom the panel shows is whom its buttons say was seen
    watch();
  }

  let watching = 0;
  function watch() {
    clearTimeout(watching);
    if (!state.working) return;
    watching = setTimeout(async () => {
      if (busy || draft || document.hidden) return watch();
      try {
        const before = state.status;
        const answer = await talk(root.dataset.state);
        if (busy || draft) return watch();
        take(answer);
        if (before !== answer.status) {
          find("words").textContent = answer.words || "It is processed.";
          if (!answer.working) suggest(true);
        }
      } catch (error) {
        say(error);
        if (!error.login) watch();
      }
    }, POLL);
  }

  // --- Boxes ------------------------------------------------------------------------------------------------------

  const face = () => state.faces.find((each) => each.id === selected);
  const isShown = (each) => !each.dismissed || showDismissed.querySelector("input").checked || each.id === selected;

  /** Pixels of the original for each pixel of the screen. */
  function unit() {
    const { width, height } = stage.getBoundingClientRect();
    return Math.max(state.width / (width || 1), state.height / (height || 1));
  }

  function render() {
    const focused = document.activeElement && document.activeElement.closest("[data-face]");
    const focusedId = focused && boxes.contains(focused) ? focused.dataset.face : null;
    const photo = find("photo");
    if (state.rendition && photo.getAttribute("href") !== state.rendition) photo.setAttribute("href", state.rendition);
    const missing = find("no-photo");
    if (missing) missing.hidden = Boolean(state.rendition);
    showDismissed.hidden = !state.faces.some((each) => each.dismissed);
    find("process").hidden = state.working;
    find("process").querySelector("button").classList.toggle("vs-quiet", !state.failed);
    find("words").classList.toggle("vs-error", state.failed);
    renderSources();

    const scale = unit();
    const lookOf = (each) => drawn(each, each.id === selected && draft ? draft : each, each.id === selected, scale);
    const shown = state.faces.filter(isShown);
    if (selected === "new" && draft) shown.push({ id: "new", title: "New face", name: "", ...draft });
    boxes.replaceChildren(...shown.map(lookOf));
    if (focusedId) focusBox(focusedId);
  }

  function focusBox(id) {
    const box = boxes.querySelector(`[data-face="${id}"]`);
    if (box) box.focus({ preventScroll: true });
  }

  function renderSources() {
    find("source-count").textContent = state.embeddings.length;
    find("sources").replaceChildren(...state.embeddings.map((row) => {
      const line = document.createElement("tr");
      for (const cell of row) line.insertCell().textContent = cell;
      return line;
    }));
  }

  // --- The panel --------------------------------------------------------------------------------------------------

  function choose(id) {
    if (id !== selected) {
      quiet();
      find("words").textContent = state.words;
    }
    selected = id;
    draft = null;
    setDrawing(false);
    const chosen = face();
    if (chosen) {
      nameField.value = chosen.name;
      forgetNames();
      suggestedFor = null;
    }
    render();
    fill();
    suggest(false);
  }

  function fill() {
    const chosen = face();
    const isNew = selected === "new";
    panel.hidden = !(chosen || isNew);
    find("hint").hidden = !panel.hidden || !state.faces.length;
    if (panel.hidden) return;
    find("title").textContent = isNew ? "New face" : chosen.title;
    find("found").textContent = isNew ? "Drag over the face, or place the box by keyboard, then save." : chosen.found;
    const who = find("who");
    who.replaceChildren();
    if (chosen && chosen.name) {
      const link = document.createElement("a");
      link.href = chosen.person_url;
      link.className = "vs-link";
      link.textContent = chosen.name;
      who.append(link);
    } else if (chosen && chosen.dismissed) who.append("Somebody said: this is not a face.");
    find("naming").hidden = !chosen || chosen.dismissed;
    find("actions").hidden = !chosen;
    find("placing").hidden = !draft;
    find("keys").hidden = Boolean(chosen && chosen.dismissed);
    if (chosen) {
      const when = { reject: chosen.name, unname: chosen.name, restore: chosen.dismissed };
      for (const button of panel.querySelectorAll("[data-act]")) {
        const name = button.dataset.act;
        button.hidden = name in when ? !when[name] || (name !== "restore" && chosen.dismissed) : chosen.dismissed;
      }
    }
  }

  const address = (chosen, action) => chosen.url.replace("ACTION", action);

  async function name(fields) {
    const chosen = face();
    if (!chosen) return;
    const answer = await act(address(chosen, "name"), { ...fields, seen: chosen.person });
    if (!answer) return fill();
    choose(chosen.id);
    told(answer);
  }

  find("name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    name({ name: nameField.value });
  });

  for (const button of panel.querySelectorAll("[data-act]")) {
    button.addEventListener("click", async () => {
      const chosen = face();
      if (!chosen) return;
      const answer = await act(address(chosen, button.dataset.act), { seen: chosen.person });
      if (!answer) return fill();
      const gone = ["dismiss", "delete"].includes(button.dataset.act);
      choose(gone ? null : chosen.id);
      told(answer);
      if (gone) find("draw-button").focus();
    });
  }

  const forgetNames = offerNames(nameField, root.dataset.people, say);

  async function suggest(again) {
    const chosen = face();
    const area = find("suggested");
    if (!chosen || chosen.dismissed) {
      area.hidden = true;
      return;
    }
    if (suggestedFor === chosen.id && !again) return;
    suggestedFor = chosen.id;
    area.hidden = false;
    find("note").textContent = "Looking …";
    find("suggestions").replaceChildren();
    let found;
    try {
      found = await talk(chosen.suggestions_url);
    } catch (error) {
      found = { people: [], note: error.message };
    }
    if (selected !== chosen.id) return;
    find("note").textContent = found.note;
    find("suggestions").replaceChildren(...found.people.map((each) => suggestion(each, chosen)));
  }

  function suggestion(each, chosen) {
    const line = document.createElement("li");
    const words = document.createElement("span");
    const who = document.createElement("strong");
    who.textContent = each.name;
    words.append(who, ` ${each.likeness}, distance ${each.distance}`);
    const buttons = document.createElement("span");
    buttons.className = "vs-row";
    buttons.append(
      button("Yes", `This is ${each.name}`, () => name({ person: each.person })),
      button("No", `This is not ${each.name}`, async () => {
        const { person: seen } = face();
        const answer = await act(address(chosen, "reject"), { person: each.person, seen });
        if (!answer) return;
        told(answer);
        suggest(true);
      }),
    );
    line.append(words, buttons);
    return line;
  }

  function button(words, label, pressed) {
    const made = document.createElement("button");
    made.type = "button";
    made.className = "vs-button vs-quiet";
    made.textContent = words;
    made.setAttribute("aria-label", label);
    made.addEventListener("click", pressed);
    return made;
  }

  // --- Placing boxes ------------------------------------------------------------------------------------------------

  function place(box) {
    draft = within(box, state);
    render();
    fill();
  }

  const current = () => draft || face();

  function setDrawing(on) {
    drawing = on;
    stage.parentElement.classList.toggle("is-drawing", on);
    find("draw-button").setAttribute("aria-pressed", String(on));
  }

  find("draw-button").addEventListener("click", () => {
    if (drawing) return choose(null);
    choose(null);
    selected = "new";
    setDrawing(true);
    const side = Math.min(state.width, state.height) / 4;
    place({ x: (state.width - side) / 2, y: (state.height - side) / 2, width: side, height: side });
    focusBox("new");
  });

  async function savePlace() {
    if (!draft) return;
    const fields = { ...draft };
    const chosen = face();
    const answer = await act(selected === "new" ? root.dataset.draw : address(chosen, "move"), fields);
    if (!answer) return;
    choose(answer.made || chosen.id);
    told(answer);
    if (answer.made) nameField.focus();
    else focusBox(selected);
  }

  function forgetPlace() {
    const back = selected === "new" ? null : selected;
    choose(back);
    if (back) focusBox(back);
    else find("draw-button").focus();
  }

  find("place").addEventListener("click", savePlace);
  find("unplace").addEventListener("click", forgetPlace);

  // --- By mouse and touch -------------------------------------------------------------------------------------------

  let drag = null; // { kind, from: {x, y}, box, moved }

  function point(event) {
    const matrix = stage.getScreenCTM().inverse();
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix);
    return { x: at.x, y: at.y };
  }

  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || busy) return;
    const from = point(event);
    const corner = event.target.dataset && event.target.dataset.corner;
    const group = event.target.closest("[data-face]");
    if (corner) drag = { kind: corner, from, box: { ...current() } };
    else if (group && group.dataset.face === selected && !(face() && face().dismissed)) drag = { kind: "move", from, box: { ...current() } };
    else if (drawing) drag = { kind: "draw", from };
    else if (group) return; // the click chooses it
    if (!drag) return;
    event.preventDefault();
    stage.setPointerCapture(event.pointerId);
  });

  // A finger on a box drags it and scrolls nothing. By then the pointer has said what is dragged.
  stage.addEventListener("touchstart", (event) => drag && event.preventDefault(), { passive: false });

  stage.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const at = point(event);
    const far = Math.hypot(at.x - drag.from.x, at.y - drag.from.y) / unit();
    if (!drag.moved && far < 4) return; // a hand that trembles
    drag.moved = true;
    place(dragged(drag, at, state));
  });

  let dropped = false; // the click that ends a drag chooses nothing
  for (const end of ["pointerup", "pointercancel"]) {
    stage.addEventListener(end, () => {
      dropped = Boolean(drag && drag.moved);
      if (drag && drag.moved) focusBox(selected);
      drag = null;
    });
  }

  stage.addEventListener("click", (event) => {
    if (dropped) {
      dropped = false;
      return;
    }
    const group = event.target.closest("[data-face]");
    if (!group || group.dataset.face === selected) return;
    choose(group.dataset.face);
    focusBox(selected);
  });

  // --- By keyboard --------------------------------------------------------------------------------------------------

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  boxes.addEventListener("keydown", (event) => {
    const group = event.target.closest("[data-face]");
    if (!group) return;
    const isChosen = group.dataset.face === selected;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (!isChosen) {
        choose(group.dataset.face);
        if (!find("naming").hidden) nameField.focus();
      } else if (draft) savePlace();
      else if (!find("naming").hidden) nameField.focus();
    } else if (event.key === "Escape" && isChosen) {
      event.preventDefault();
      if (draft) forgetPlace();
      else choose(null);
    } else if (event.key in ARROWS && isChosen && !(face() && face().dismissed)) {
      event.preventDefault();
      const step = Math.max(1, Math.round(Math.min(state.width, state.height) / 200));
      const [right, down] = ARROWS[event.key].map((each) => each * step);
      const box = current();
      const moved = { x: box.x, y: box.y, width: box.width, height: box.height };
      if (event.shiftKey) Object.assign(moved, { width: box.width + right, height: box.height + down });
      else Object.assign(moved, { x: box.x + right, y: box.y + down });
      place(moved);
      focusBox(selected);
    }
  });

  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    const back = selected;
    if (draft) forgetPlace();
    else choose(null);
    if (back && back !== "new") focusBox(back);
  });

  // --- Start --------------------------------------------------------------------------------------------------------

  find("process").addEventListener("submit", async (event) => {
    event.preventDefault();
    const answer = await act(event.target.action, {});
    if (answer) told(answer);
  });
  showDismissed.addEventListener("change", render);
  new ResizeObserver(() => drag || render()).observe(stage);
  find("plain").hidden = true;
  find("tools").hidden = false;
  render();
  fill();
  watch();
})();
