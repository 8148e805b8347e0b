/* The page: colours, charts, printing. Charts hold names of colours, "@ink" or "@0/0.4", which a theme translates. */

(() => {
  const root = document.documentElement;
  const { themes, charts, players } = JSON.parse(document.getElementById("drawn").textContent);
  const wantsDark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  // The buttons of plotly's bar would be in the way of the Tab key.
  const config = { responsive: true, scrollZoom: false, showTips: false, displayModeBar: false };
  const running = new Map();
  const shownVariant = new Map();
  let printing = false;

  // ------------------------------------------------------------------------------------------------------- colours
  const theme = () => (printing ? "light" : root.dataset.theme || (wantsDark.matches ? "dark" : "light"));

  function hue(name, table) {
    const [key, share] = name.slice(1).split("/");
    const hex = table[key];
    if (!hex || share === undefined) return hex || name;
    const parts = (colour) => [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    const behind = parts(table.paper);
    const mixed = parts(hex).map((c, i) => Math.round(share * c + (1 - share) * behind[i]));
    return `rgb(${mixed})`; // mixed with the paper: see-through colours add up, and differ in three dimensions
  }

  function themed(value, table) {
    if (typeof value === "string") return value[0] === "@" ? hue(value, table) : value;
    if (Array.isArray(value)) {
      const numbers = typeof value[0] === "number" && typeof value.at(-1) === "number"; // no need to look at all
      return numbers ? value : value.map((v) => themed(v, table));
    }
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, themed(v, table)]));
  }

  function layoutOf(spec) {
    const axis = {
      gridcolor: "@grid", linecolor: "@line", tickcolor: "@line", zeroline: false, showline: true, ticks: "outside",
      ticklen: 4, automargin: true,
    };
    const clear = "rgba(0,0,0,0)";
    const layout = {
      paper_bgcolor: clear, plot_bgcolor: clear, height: spec.height, autosize: true, hovermode: "closest",
      dragmode: coarse ? false : "zoom",
      font: { family: getComputedStyle(root).getPropertyValue("--sans"), size: 12, color: "@ink" },
      margin: { l: 60, r: 14, t: 14, b: 46 },
      hoverlabel: { bgcolor: "@paper", bordercolor: "@line", font: { color: "@ink" }, align: "left" },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: clear },
      xaxis: {}, yaxis: {}, ...spec.layout,
    };
    for (const key of Object.keys(layout)) if (/^[xy]axis\d*$/.test(key)) layout[key] = { ...axis, ...layout[key] };
    if (layout.scene) {
      layout.scene = { ...layout.scene };
      for (const key of ["xaxis", "yaxis", "zaxis"]) layout.scene[key] = { ...axis, ticks: "", ...layout.scene[key] };
      delete layout.xaxis;
      delete layout.yaxis;
    }
    return layout;
  }

  /* A chart as plotly takes it, in the colours of a theme, at the state that its player shows. */
  function figure(id, name) {
    const spec = charts[id];
    const table = themes[name];
    const traces = spec.variants ? spec.variants[shownVariant.get(id) || 0] : spec.data;
    const data = themed(traces, table);
    const layout = themed(layoutOf(spec), table);
    const [owner, view] = id.split("-");
    const player = running.get(owner);
    if (player && view === "tokens")
      player.places(player.at).forEach((values, j) => { data[player.spec.moving]["xyz"[j]] = values; });
    if (player && view === "gram") data[0].z = player.gram(player.at);
    if (player && view === "series" && layout.shapes)
      layout.shapes = [{ ...layout.shapes[0], x0: player.spec.at[player.at], x1: player.spec.at[player.at] }];
    return { data, layout };
  }

  // -------------------------------------------------------------------------------------------------------- drawing
  const drawn = (id) => document.getElementById(id).classList.contains("js-plotly-plot");

  async function draw(id) {
    const box = document.getElementById(id);
    const { data, layout } = figure(id, theme());
    await Plotly.newPlot(box, data, layout, config);
    if (layout.scene) // as two clicks do in a plane
      box.addEventListener("dblclick", () => Plotly.relayout(box, { "scene.camera": charts[id].layout.scene.camera }));
    if (data.some((trace) => trace.customdata)) {
      box.classList.add("links");
      box.on("plotly_click", (event) => {
        const address = event.points[0].customdata;
        if (typeof address === "string" && address) location.href = address;
      });
    }
    await still(id);
  }

  /* Pictures in three dimensions cannot be printed as they are: a picture of the picture stands in for each. */
  async function still(id) {
    const box = document.getElementById(id);
    if (!box.classList.contains("scene")) return;
    const { data, layout } = figure(id, "light");
    if (box.layout && box.layout.scene.camera) layout.scene.camera = box.layout.scene.camera;
    const options = { format: "png", width: 560, height: charts[id].height, scale: 2 };
    try {
      box.nextElementSibling.src = await Plotly.toImage({ data, layout: { ...layout, autosize: false } }, options);
    } catch { /* without WebGL there is none */ }
  }

  function repaint() {
    const name = theme();
    for (const id of Object.keys(charts)) {
      if (!drawn(id)) continue;
      const { data, layout } = figure(id, name);
      const box = document.getElementById(id);
      if (layout.scene && box.layout.scene.camera) layout.scene.camera = box.layout.scene.camera;
      const width = box.closest(".views") ? 330 : 660; // of paper, where nothing tells how wide it is
      if (printing && !layout.scene) Object.assign(layout, { autosize: false, width });
      Plotly.react(box, data, layout, config);
    }
  }

  async function plotly() {
    const text = document.getElementById("plotly").textContent;
    const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  }

  // -------------------------------------------------------------------------------------------------------- the page
  const button = document.getElementById("theme");

  function setTheme(name) {
    if (name) root.dataset.theme = name;
    button.textContent = theme() === "dark" ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(theme() === "dark"));
    if (window.Plotly) repaint();
  }

  button.addEventListener("click", () => setTheme(theme() === "dark" ? "light" : "dark"));
  wantsDark.addEventListener("change", () => setTheme());

  for (const list of document.querySelectorAll("select[data-chart]"))
    list.addEventListener("change", () => {
      const lists = document.querySelectorAll(`select[data-chart="${list.dataset.chart}"]`);
      let at = 0;
      for (const one of lists) at = at * one.options.length + one.selectedIndex;
      shownVariant.set(list.dataset.chart, at);
      const { data, layout } = figure(list.dataset.chart, theme());
      Plotly.react(list.dataset.chart, data, layout, config);
    });

  let closed = [];
  addEventListener("beforeprint", () => {
    printing = true;
    closed = [...document.querySelectorAll("details:not([open])")];
    closed.forEach((part) => { part.open = true; });
    if (window.Plotly) repaint();
  });
  addEventListener("afterprint", () => {
    printing = false;
    closed.forEach((part) => { part.open = false; });
    if (window.Plotly) repaint();
  });

  async function start() {
    setTheme();
    const reached = (owner) => still(`${owner}-tokens`);
    for (const [id, spec] of Object.entries(players)) running.set(id, new Player(id, spec, reached));
    await plotly();
    for (const id of Object.keys(charts)) {
      await draw(id);
      await new Promise((done) => setTimeout(done)); // the page stays alive
    }
    root.dataset.ready = "true";
  }

  start().catch((error) => {
    root.dataset.ready = "failed";
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = `Charts could not be drawn: ${error.message}. They need a browser of 2023 or newer.`;
    document.getElementById("main").prepend(note);
  });
})();
