/* Which compression for a budget: reads the compressed models beside it, draws them with Plotly, names those that none beats. */
(function () {
  "use strict";
  const box = document.getElementById("kc-choose");
  const rows = window.kc.read("kc-choose-data");
  const techniques = ["uncompressed", "pruning", "quantization", "pruning then quantization", "original file"];
  const colours = ["#949494", "#0173b2", "#de8f05", "#029e73", "#cc78bc"];
  const symbols = ["star", "circle", "square", "diamond", "hexagram"];
  const model = box.querySelector("[name=model]");
  const question = box.querySelector("[name=question]");
  const budget = box.querySelector("[name=budget]");
  const axis = box.querySelector("[name=axis]");
  const axes = {
    megabytes: ["size (MB)", "size of the whole model (MB)"],
    reading: ["time to read", "time to read<br>(times the uncompressed model's)"],
    writing: ["time to write", "time to write a token<br>(times the uncompressed model's)"],
  };
  const AGAIN = "rounds again what the published file had rounded";
  const answer = box.querySelector(".kc-answer");
  const { unique, percent, megabytes, fill, element } = window.kc;

  function shown() {
    return rows.filter((r) => r.model === model.value && r.question === question.value);
  }

  function newModel() {
    fill(question, unique(rows.filter((r) => r.model === model.value).map((r) => r.question)));
    const sizes = shown().map((r) => r.megabytes);
    budget.value = Number((0.5 * Math.max(...sizes)).toPrecision(2));
    budget.step = Math.max(...sizes) < 10 ? 0.01 : 1;
    const before = axis.value;
    const timed = shown().some((r) => r.recipe !== "none" && r.reading !== null);
    axis.replaceChildren(...Object.keys(axes).filter((name) => name === "megabytes" || timed)
      .map((name) => new Option(axes[name][0], name)));
    axis.value = [...axis.options].some((o) => o.value === before) ? before : "megabytes";
    draw();
  }

  /* Models beside which no other is at least as quick (or small) and keeps as much, and is better in one of the two. */
  function unbeaten(part, by) {
    const kept = (r) => Math.min(r.kept, 1); // nothing keeps more than all
    return part.filter((r) => !part.some((o) => o[by] <= r[by] && kept(o) >= kept(r) && (o[by] < r[by] || kept(o) > kept(r))));
  }

  function draw() {
    const by = axis.value;
    const part = shown();
    const drawn = part.filter((r) => r[by] !== null);
    const limit = Number(budget.value);
    const ink = getComputedStyle(box).color;
    const faint = "rgba(128, 128, 128, 0.35)";
    const traces = techniques.map(function (technique, n) {
      // the legend takes the look of the first point: one within the budget, where there is any
      const mine = drawn.filter((r) => r.technique === technique)
        .sort((a, b) => (b.megabytes <= limit) - (a.megabytes <= limit));
      return {
        type: "scatter", mode: "markers", name: technique,
        x: mine.map((r) => r[by]), y: mine.map((r) => 100 * r.kept),
        error_y: {
          type: "data", symmetric: false, thickness: 1, width: 2, color: colours[n],
          array: mine.map((r) => 100 * (r.high - r.kept)), arrayminus: mine.map((r) => 100 * (r.kept - r.low)),
        },
        marker: { size: 9, color: colours[n], symbol: symbols[n], opacity: mine.map((r) => (r.megabytes <= limit ? 1 : 0.35)) },
        text: mine.map((r) => r.recipe + (r.again ? "<br>" + AGAIN : "")),
        customdata: mine.map((r) => r.megabytes),
        hovertemplate: "%{text}<br>%{customdata:.3g} MB, %{y:.0f} % kept<extra>" + technique + "</extra>",
      };
    }).filter((t) => t.x.length);
    const edge = unbeaten(drawn, by).sort((a, b) => a[by] - b[by]);
    traces.push({
      type: "scatter", mode: "lines", name: by === "megabytes" ? "none keeps more in fewer bytes" : "none keeps more in less time", hoverinfo: "skip",
      x: edge.map((r) => r[by]), y: edge.map((r) => 100 * r.kept), line: { shape: "hv", color: ink, width: 1.5 },
    });
    const look = { gridcolor: faint, zerolinecolor: faint, color: ink };
    Plotly.react(box.querySelector(".kc-plot"), traces, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 13 },
      margin: { l: 56, r: 12, t: 12, b: 60 }, height: 480, hovermode: "closest",
      legend: { orientation: "h", x: 0, y: 1.03, yanchor: "bottom" },
      xaxis: { ...look, title: { text: axes[by][1] }, rangemode: "tozero" },
      yaxis: { ...look, title: { text: "knowledge kept (%)" } },
      shapes: [
        ...(by === "megabytes" ? [{ type: "line", x0: limit, x1: limit, yref: "paper", y0: 0, y1: 1, line: { color: "#d55e00", width: 2, dash: "dash" } }] : []),
        { type: "line", xref: "paper", x0: 0, x1: 1, y0: 0, y1: 0, line: { color: ink, width: 1.5, dash: "dot" } },
      ],
      annotations: [
        ...(by === "megabytes" ? [{ x: limit, yref: "paper", y: 1, text: "budget", showarrow: false, xanchor: "left", yanchor: "top", font: { color: ink } }] : []),
        { xref: "paper", x: 1, y: 0, text: "guessing", showarrow: false, xanchor: "right", yanchor: "bottom", font: { color: ink } },
      ],
    }, { responsive: true, displaylogo: false, displayModeBar: false });
    say(part, limit);
  }

  function say(part, limit) {
    const fitting = part.filter((r) => r.frontier && r.megabytes <= limit).sort((a, b) => b.kept - a.kept);
    const lead = element("p");
    if (!fitting.length) {
      lead.textContent = limit > 0
        ? "No compressed model that was measured fits " + megabytes(limit) + ". The smallest takes " +
          megabytes(Math.min(...part.map((r) => r.megabytes))) + "."
        : "Name a budget above zero.";
      answer.replaceChildren(lead);
      return;
    }
    lead.append("Within " + megabytes(limit) + ", most is kept by ", code(fitting[0].recipe), ": " + inWords(fitting[0]) + ".");
    const list = element("ul", ...fitting.slice(1, 6).map((r) => element("li", code(r.recipe), ": " + inWords(r))));
    const others = question.options.length - 1;
    lead.append(" Queried: " + question.value + (others ? "; the list Facts holds " + others + " more, by source and protocol." : "."));
    answer.replaceChildren(lead);
    if (fitting.length > 1) {
      answer.append(element("p", "Smaller still, and beaten by none in its size:"), list);
    }
  }

  function inWords(r) {
    return percent(r.kept) + " of the knowledge (95 % interval " + percent(r.low) + " to " + percent(r.high) + ") in " +
      megabytes(r.megabytes) + (r.again ? " (" + AGAIN + ")" : "");
  }

  function code(text) {
    return text.includes("@") ? element("code", text) : text === "none" ? "no compression" : "the " + text;
  }

  box.hidden = false; // before the first drawing, which takes the width that is there
  fill(model, unique(rows.map((r) => r.model)));
  newModel();
  model.addEventListener("change", newModel);
  question.addEventListener("change", draw);
  budget.addEventListener("input", draw);
  axis.addEventListener("change", draw);
  new MutationObserver(draw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
})();
