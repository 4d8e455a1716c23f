(function () {
  "use strict";
  var data = JSON.parse(document.getElementById("sweep").textContent);
  var lang = document.documentElement.lang;
  var element = function (id) { return document.getElementById(id); };
  var slider = element("slider"), choice = element("class"), current = data.classes[0];
  // Spanish groups digits from five on, with a narrow space, as everywhere else on this page.
  var whole = function (n) {
    var least = lang === "es" ? 5 : 4, text = String(n);
    return text.length < least ? text : text.replace(/\B(?=(\d{3})+$)/g, lang === "es" ? "\u202f" : ",");
  };
  var decimal = function (x, digits) {
    var text = x.toFixed(digits);
    return lang === "es" ? text.replace(".", ",") : text;
  };
  var percent = function (x) { return decimal(100 * x, 1) + (lang === "es" ? "\u00a0%" : "%"); };
  var fill = function (text, values) {
    return text.replace(/\{(\w+)\}/g, function (_, name) { return values[name]; });
  };
  // Wilson's score interval, as in the tables.
  var wilson = function (k, n) {
    var z = 1.959963984540054, p = k / n, d = 1 + z * z / n;
    var centre = (p + z * z / (2 * n)) / d, half = z / d * Math.sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    return [k === 0 ? 0 : Math.max(0, centre - half), k === n ? 1 : Math.min(1, centre + half)];
  };
  var show = function (key, k, n) {
    element(key + "-now").textContent = n ? percent(k / n) : "–";
    if (n && data.wilson) {
      var bounds = wilson(k, n);
      element(key + "-range").textContent = fill(data.texts.interval, { low: percent(bounds[0]), high: percent(bounds[1]) });
    } else {
      element(key + "-range").textContent = "";
    }
    element(key + "-counts").textContent = n ? fill(data.texts.of, { part: whole(k), all: whole(n) }) : data.texts.none;
  };
  var make = function (name, attributes) {
    var node = document.createElementNS(element("histogram").namespaceURI, name);
    Object.keys(attributes).forEach(function (key) { node.setAttribute(key, attributes[key]); });
    return element("histogram").appendChild(node);
  };
  var line;
  var draw = function () {
    var bins = current.histogram, most = 1, width = 600 / bins.positive.length;
    element("histogram").textContent = "";
    bins.positive.concat(bins.negative).forEach(function (n) { most = Math.max(most, Math.sqrt(n)); });
    bins.positive.forEach(function (n, i) {
      var up = 70 * Math.sqrt(n) / most, down = 70 * Math.sqrt(bins.negative[i]) / most;
      make("rect", { x: i * width + 0.75, width: width - 1.5, y: 75 - up, height: up, fill: "#d55e00" });
      make("rect", { x: i * width + 0.75, width: width - 1.5, y: 75, height: down, fill: "#0072b2" });
    });
    make("line", { x1: 0, x2: 600, y1: 75, y2: 75, style: "stroke:var(--soft)", "stroke-width": 0.5 });
    line = make("line", { y1: 0, y2: 150, style: "stroke:var(--ink)", "stroke-width": 2, "vector-effect": "non-scaling-stroke" });
    ["truly-positive", "called-positive", "positive-name"].forEach(function (id, i) {
      element(id).textContent = fill([data.texts.truly, data.texts.called, "{name}"][i], { name: current.name });
    });
    ["truly-negative", "called-negative", "negative-name"].forEach(function (id, i) {
      element(id).textContent = fill([data.texts.truly, data.texts.called, "{name}"][i], { name: current.other });
    });
  };
  var update = function () {
    var i = Number(slider.value), tp = current.tp[i], fp = current.fp[i];
    var fn = current.positives - tp, tn = current.negatives - fp, threshold = current.thresholds[i];
    element("threshold-now").textContent = decimal(threshold, 3);
    slider.setAttribute("aria-valuetext", decimal(threshold, 3));
    show("sensitivity", tp, current.positives);
    show("specificity", tn, current.negatives);
    show("ppv", tp, tp + fp);
    show("npv", tn, tn + fn);
    element("tp").textContent = whole(tp); element("fn").textContent = whole(fn);
    element("fp").textContent = whole(fp); element("tn").textContent = whole(tn);
    line.setAttribute("x1", 600 * Math.min(1, threshold)); line.setAttribute("x2", 600 * Math.min(1, threshold));
  };
  var reset = function () {
    slider.max = current.thresholds.length - 1;
    slider.value = current.start;
    draw(); update();
  };
  slider.addEventListener("input", update);
  element("back").addEventListener("click", function () { slider.value = current.start; update(); });
  if (choice) choice.addEventListener("change", function () { current = data.classes[Number(choice.value)]; reset(); });
  element("explorer").hidden = false;
  reset();
})();
