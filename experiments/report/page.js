"use strict";

// Draws the charts, and connects the buttons: one legend for all charts of an environment.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const coarse = matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d"]],
    displayModeBar: coarse ? false : "hover",
  };
  const pressed = (button) => button.getAttribute("aria-pressed") === "true";
  const press = (button, on) => button.setAttribute("aria-pressed", String(on));

  function show(legend) {
    const on = new Set(
      [...legend.querySelectorAll("button")].filter(pressed).map((button) => button.dataset.key),
    );
    const section = document.getElementById(legend.dataset.section);
    for (const { id } of section.querySelectorAll(".chart")) {
      const visible = charts[id].data.map((trace) => on.has(trace.legendgroup));
      Plotly.restyle(id, { visible }, [...visible.keys()]);
    }
  }

  for (const [id, { data, layout }] of Object.entries(charts)) {
    // A finger that scrolls the page must not draw a box instead.
    Plotly.newPlot(id, data, coarse ? { ...layout, dragmode: false } : layout, config);
  }
  for (const legend of document.querySelectorAll(".legend")) {
    const buttons = [...legend.querySelectorAll("button")];
    for (const button of buttons) {
      button.addEventListener("click", (event) => {
        // A double click comes after its first click: where that left none, it was alone before.
        const none = !buttons.some(pressed);
        if (event.detail === 2) buttons.forEach((other) => press(other, none || other === button));
        else press(button, !pressed(button));
        show(legend);
      });
    }
    show(legend);
  }
  for (const choice of document.querySelectorAll(".choice")) {
    const id = choice.dataset.chart;
    for (const button of choice.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        for (const other of choice.querySelectorAll("button")) press(other, other === button);
        const axis = charts[id].axes[button.dataset.axis];
        const x = charts[id].data.map((trace) => axis.x[trace.legendgroup]);
        Plotly.update(id, { x }, { "xaxis.title.text": axis.title, "xaxis.autorange": true });
      });
    }
  }
})();
