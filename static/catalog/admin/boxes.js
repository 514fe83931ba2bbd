// The boxes of faces: how one looks in the SVG, and what dragging makes of it. Knows nothing of the page around.
"use strict";
window.visearchBoxes = (() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LEAST_SIDE = 10; // pixels of the original, as the server asks for (catalog.curation.faces)

  // --- How one looks ------------------------------------------------------------------------------------------------

  function element(name, attributes, parent) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (parent) parent.append(made);
    return made;
  }

  /** The box of a face where it is, or where it is dragged to (`at`), with its name; `scale` as by unit() of faces.js. */
  function drawn(each, at, isSelected, scale) {
    const group = element("g", {
      class: `vs-face${isSelected ? " is-selected" : ""}`,
      "data-face": each.id,
      tabindex: "0",
      role: "button",
      "aria-pressed": String(isSelected),
      "aria-label": spoken(each),
    });
    const place = { x: at.x, y: at.y, width: at.width, height: at.height };
    element("rect", { class: "vs-box-edge", ...place }, group);
    const kind = each.dismissed ? " is-dismissed" : each.name ? " is-named" : "";
    element("rect", { class: `vs-box${kind}`, ...place }, group);
    const size = 13 * scale;
    const words = fitted(each.name || (each.dismissed ? "not a face" : "?"), each.score, at.width / (size * 0.6));
    const above = at.y > size * 1.5;
    const label = element("text", {
      class: "vs-tag",
      x: at.x,
      y: above ? at.y - size * 0.4 : at.y + at.height + size * 1.1,
      "font-size": size,
      "stroke-width": 3 * scale,
      "aria-hidden": "true",
    }, group);
    label.textContent = words;
    if (isSelected && !each.dismissed) grips(group, at, scale);
    return group;
  }

  /** As much of name and score as stands above a box; the panel has all of it. */
  function fitted(name, score, room) {
    const whole = [name, score].filter(Boolean).join(" ");
    if (whole.length <= room) return whole;
    const most = Math.max(3, Math.floor(room));
    return name.length <= most ? name : `${name.slice(0, most - 1)}…`;
  }

  function grips(group, at, scale) {
    const small = 10 * scale;
    const large = 26 * scale; // what a finger can hit
    for (const corner of ["nw", "ne", "sw", "se"]) {
      const x = corner.includes("w") ? at.x : at.x + at.width;
      const y = corner.includes("n") ? at.y : at.y + at.height;
      const square = (side) => ({ x: x - side / 2, y: y - side / 2, width: side, height: side });
      element("rect", { class: "vs-grip", ...square(small) }, group);
      element("rect", { class: "vs-grip-area", "data-corner": corner, ...square(large) }, group);
    }
  }

  function spoken(each) {
    const who = each.dismissed ? "not a face" : each.name || "no name yet";
    return each.id === "new" ? "New face, not saved yet" : `${each.title}: ${who}, ${each.found}`;
  }

  // --- What dragging makes of it ------------------------------------------------------------------------------------

  const between = (value, least, most) => Math.min(Math.max(value, least), most);

  /** The box moved and sized into the image. */
  function within(box, image) {
    const width = between(box.width, LEAST_SIDE, image.width);
    const height = between(box.height, LEAST_SIDE, image.height);
    return { x: between(box.x, 0, image.width - width), y: between(box.y, 0, image.height - height), width, height };
  }

  /** What a drag that began so makes of the box, by the time the pointer is there. */
  function dragged({ kind, from, box }, at, image) {
    const x = between(at.x, 0, image.width);
    const y = between(at.y, 0, image.height);
    if (kind === "move") return { ...box, x: box.x + at.x - from.x, y: box.y + at.y - from.y };
    if (kind === "draw") return spanned(from.x, from.y, x, y);
    return spanned(
      kind.includes("w") ? box.x + box.width : box.x,
      kind.includes("n") ? box.y + box.height : box.y,
      x,
      y,
    );
  }

  function spanned(x1, y1, x2, y2) {
    return { x: Math.min(x1, x2), y: Math.min(y1, y2), width: Math.abs(x2 - x1), height: Math.abs(y2 - y1) };
  }

  return { drawn, within, dragged };
})();
