const COLOURS = ["#2a6fb0", "#b3571a", "#23803c", "#8a2f8a", "#a5281f", "#0b7476", "#6d5600", "#4a5563"];
const COUNT = 100, AT_ONCE = 5, PATIENCE = 2000;
const tiles = document.getElementById("tiles"), legend = document.getElementById("legend");
const names = [], found = new Map();
for (let n = 0; n < COUNT; n += 1) tiles.append(document.createElement("span"));
const colour = (name) => {
  if (!names.includes(name)) { names.push(name); names.sort(); }
  return COLOURS[names.indexOf(name) % COLOURS.length];
};
const tell = () => {
  legend.replaceChildren(...names.map((name) => {
    const count = [...found.values()].filter((each) => each === name).length, made = document.createElement("b");
    made.textContent = `${name}: ${count}`;
    made.style.background = colour(name);
    return made;
  }));
  [...tiles.children].forEach((tile, n) => {
    tile.style.background = found.has(n) ? colour(found.get(n)) : "";
    tile.title = found.get(n) ?? "";
  });
};
let following = 0;
const worker = async () => {
  for (;;) {
    const n = following++ % COUNT;
    try {
      const answer = await fetch(`mosaic/tile?${n}.${Date.now()}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      found.set(n, (await answer.text()).trim());
    } catch { found.delete(n); }
    tell();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
for (let n = 0; n < AT_ONCE; n += 1) worker();
