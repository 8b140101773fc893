// The farm's plots: each server's share and accepted packets, and the moves of buckets, asked for every second.
const section = document.getElementById("farm");
const COLOURS = ["#2a6fb0", "#c9711c", "#2f8f4e", "#a13fa1", "#b3261e", "#6b7280", "#0f8b8d", "#8a6d00"];
const KEPT = 300; // seconds that are shown
const times = [];
const shares = {};
const rates = {};
const moves = [];
const last = {};
let plots = null;
let servers = [];

const colour = (number) => COLOURS[number % COLOURS.length];
const ink = () => getComputedStyle(document.body).color;

const make = () => {
  const plot = (id, values, lines, most) => {
    const options = {
      width: Math.min(section.clientWidth, 1100),
      height: 220,
      legend: { live: true },
      scales: { y: { range: (_, low, high) => [0, most ?? Math.max(1, high * 1.1)] } },
      axes: [{ stroke: ink }, { stroke: ink }],
      series: [{}, ...lines],
    };
    const place = document.getElementById(id);
    place.replaceChildren();
    return new uPlot(options, values, place);
  };
  const each = servers.map((name, number) => ({ label: name, stroke: colour(number), width: 2 }));
  const moved = { label: section.dataset.moved, stroke: colour(4), fill: `${colour(4)}33`, paths: uPlot.paths.stepped({ align: 1 }) };
  plots = [
    plot("shares", data(shares), each, 100),
    plot("packets", data(rates), each),
    plot("moves", [times, moves], [moved]),
  ];
};

const data = (values) => [times, ...servers.map((name) => values[name])];

const cell = (row, text) => {
  const made = row.insertCell();
  made.textContent = text;
  return made;
};

const show = (found) => {
  const now = Date.now() / 1000;
  const names = found.servers.map((each) => each.server);
  if (names.join() !== servers.join()) {
    servers = names;
    times.length = moves.length = 0;
    for (const name of names) {
      shares[name] = [];
      rates[name] = [];
    }
    plots = null;
  }
  times.push(now);
  moves.push(found.moved ?? 0);
  const body = document.getElementById("now");
  body.replaceChildren();
  for (const each of found.servers) {
    const before = last[each.server];
    const rate = before && each.answers && each.packets >= before.packets ? (each.packets - before.packets) / (now - before.at) : 0;
    last[each.server] = { packets: each.packets, at: now };
    const share = each.shares.length ? each.shares[0] : 0;
    shares[each.server].push(share);
    rates[each.server].push(rate);
    const row = body.insertRow();
    cell(row, each.server);
    cell(row, each.answers ? each.state : "?");
    cell(row, share.toFixed(1));
    cell(row, rate.toFixed(0));
  }
  while (times.length > KEPT) {
    times.shift();
    moves.shift();
    for (const name of servers) {
      shares[name].shift();
      rates[name].shift();
    }
  }
  document.getElementById("view").textContent =
    `${section.dataset.view} ${found.view ?? "-"}: ${found.cause ?? ""}; ${found.moved ?? 0} ${section.dataset.moved}`;
  if (!plots) make();
  plots[0].setData(data(shares));
  plots[1].setData(data(rates));
  plots[2].setData([times, moves]);
};

const look = async () => {
  try {
    const answer = await fetch(section.dataset.source);
    if (answer.ok) show(await answer.json());
  } catch {
    // The next look comes soon.
  }
  setTimeout(look, 1000);
};
look();
