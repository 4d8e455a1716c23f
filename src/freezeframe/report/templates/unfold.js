(function () {
  "use strict";
  // A printed page cannot unfold what is folded.
  var folded = [];
  window.addEventListener("beforeprint", function () {
    folded = Array.prototype.slice.call(document.querySelectorAll("details:not([open])"));
    folded.forEach(function (node) { node.open = true; });
  });
  window.addEventListener("afterprint", function () { folded.forEach(function (node) { node.open = false; }); });
})();
