"""scikit-learn's trees in ONNX, in double precision throughout: answers as the library gives them, to the last digits.

skl2onnx writes trees node by node and in single precision, and takes seconds for a forest. These converters, registered
with it in its place, hand over whole arrays. They run in an environment of their own, never where a model serves.
"""

from __future__ import annotations

from typing import Any

_BRANCH_LEQ = 0


def register() -> None:
    """Teach skl2onnx these converters, for pipelines too."""
    from skl2onnx import update_registered_converter
    from skl2onnx.common.data_types import DoubleTensorType, Int64TensorType, StringTensorType
    from sklearn import ensemble, tree

    def shapes(operator: Any) -> None:
        model = operator.raw_operator
        rows = operator.inputs[0].get_first_dimension()
        if not hasattr(model, "classes_"):
            operator.outputs[0].type = DoubleTensorType([rows, 1])
            return
        text = model.classes_.dtype.kind in "OU"
        operator.outputs[0].type = StringTensorType([rows]) if text else Int64TensorType([rows])
        operator.outputs[1].type = DoubleTensorType([rows, len(model.classes_)])

    for kind in (
        *(tree.DecisionTreeRegressor, tree.DecisionTreeClassifier, tree.ExtraTreeRegressor, tree.ExtraTreeClassifier),
        *(ensemble.RandomForestRegressor, ensemble.RandomForestClassifier),
        *(ensemble.ExtraTreesRegressor, ensemble.ExtraTreesClassifier, ensemble.GradientBoostingRegressor),
        *(ensemble.HistGradientBoostingRegressor, ensemble.HistGradientBoostingClassifier),
    ):
        options = {"zipmap": [True, False, "columns"], "nocl": [True, False]} if "Classifier" in kind.__name__ else None
        update_registered_converter(kind, f"Stead{kind.__name__}", shapes, _convert, options=options, overwrite=True)


def newest(made: Any) -> Any:
    """Name the version of the operators that has TreeEnsemble, which skl2onnx does not know yet."""
    if any(node.op_type == "TreeEnsemble" for node in made.graph.node):
        for opset in made.opset_import:
            opset.version = 5 if opset.domain == "ai.onnx.ml" else opset.version
    return made


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """The nodes of one model: rows to double, trees, and what the library does with their sums."""
    import numpy as np

    model = operator.raw_operator
    hist = type(model).__name__.startswith("Hist")
    x = operator.inputs[0].full_name
    double = scope.get_unique_variable_name("rows")
    if not hist:  # the library compares single with double precision
        single = scope.get_unique_variable_name("single")
        container.add_node("Cast", [x], [single], name=scope.get_unique_operator_name("Cast"), to=1)
        x = single
    container.add_node("Cast", [x], [double], name=scope.get_unique_operator_name("Cast"), to=11)
    found = _hist(model) if hist else _plain(model)
    attributes, targets, start = _ensemble(*found), found[1], found[2]
    if (width := getattr(model, "n_features_in_", 0)) and max(attributes["nodes_featureids"]) >= width:
        raise NotImplementedError("the trees ask for a column that there is not")
    sums = scope.get_unique_variable_name("sums")
    container.add_node(
        "TreeEnsemble", [double], [sums], op_domain="ai.onnx.ml", op_version=3,
        name=scope.get_unique_operator_name("TreeEnsemble"), **attributes,
    )  # fmt: skip
    sums = _add(scope, container, sums, np.asarray(start, dtype="float64").reshape(1, -1), "Add")
    if not hasattr(model, "classes_"):
        last = operator.outputs[0].full_name
        _op(scope, container, _link(model), [sums], last)
        return
    if hist and targets == 1:
        sums = _op(scope, container, "Sigmoid", [sums])
    elif hist:
        sums = _op(scope, container, "Softmax", [sums], axis=1)
    probabilities = operator.outputs[1].full_name
    if targets == 1:
        one = _add(scope, container, sums, np.array([[-1.0]]), "Mul")
        other = _add(scope, container, one, np.array([[1.0]]), "Add")
        _op(scope, container, "Concat", [other, sums], probabilities, axis=1)
    else:
        _op(scope, container, "Identity", [sums], probabilities)
    best = _op(scope, container, "ArgMax", [probabilities], axis=1, keepdims=0)
    labels = scope.get_unique_variable_name("classes")
    text = model.classes_.dtype.kind in "OU"
    values = [str(each).encode() for each in model.classes_] if text else [int(each) for each in model.classes_]
    container.add_initializer(labels, 8 if text else 7, [len(values)], values)
    _op(scope, container, "Gather", [labels, best], operator.outputs[0].full_name)


def _op(scope: Any, container: Any, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
    output = output or scope.get_unique_variable_name(kind.lower())
    container.add_node(kind, inputs, [output], name=scope.get_unique_operator_name(kind), op_version=13, **attributes)
    return output


def _add(scope: Any, container: Any, values: str, constant: Any, kind: str) -> str:
    name = scope.get_unique_variable_name("constant")
    container.add_initializer(name, 11, list(constant.shape), constant.ravel().tolist())
    return _op(scope, container, kind, [values, name])


def _link(model: Any) -> str:
    """What turns the sum of a regression into its answer."""
    loss = getattr(model, "_loss", None)
    link = type(getattr(loss, "link", None)).__name__
    if not type(model).__name__.startswith("Hist") or link == "IdentityLink":
        return "Identity"
    if link == "LogLink":
        return "Exp"
    raise NotImplementedError(f"a regression with the link {link}")


Tree = tuple[Any, Any, Any, Any, Any, Any, Any]
"""Arrays of a tree: feature, threshold, left, right, missing goes left, is a leaf, value."""


def _plain(model: Any) -> tuple[list[tuple[int, Tree]], int, Any]:
    """Trees with the target each adds to, the number of targets, and where the sums begin."""
    import numpy as np

    boosted = type(model).__name__.startswith("GradientBoosting")
    trees = [model] if hasattr(model, "tree_") else list(np.ravel(model.estimators_))
    if getattr(model, "n_outputs_", 1) != 1:
        raise NotImplementedError("a model with several outputs")
    share = model.learning_rate if boosted else 1.0 / len(trees)
    start = 0.0
    if boosted and model.init_ != "zero":
        if type(model.init_).__name__ != "DummyRegressor":
            raise NotImplementedError("boosting that begins with another model")
        start = float(np.ravel(model.init_.constant_)[0])
    classes = len(model.classes_) if hasattr(model, "classes_") else 0
    if classes == 1:
        raise NotImplementedError("a classifier that has seen one class only")
    made: list[tuple[int, Tree]] = []
    for each in trees:
        tree = each.tree_
        missing = getattr(tree, "missing_go_to_left", np.zeros(len(tree.feature), dtype="uint8"))
        for target in range(classes if classes > 2 else 1):
            value = tree.value[:, 0, (target if classes > 2 else 1) if classes else 0]
            if classes:
                value = value / tree.value[:, 0, :].sum(axis=1)
            leaf = tree.children_left < 0
            made.append(
                (target, (tree.feature, tree.threshold, tree.children_left, tree.children_right, missing, leaf, value * share))
            )  # fmt: skip
    return made, classes if classes > 2 else 1, start


def _hist(model: Any) -> tuple[list[tuple[int, Tree]], int, Any]:
    import numpy as np

    made: list[tuple[int, Tree]] = []
    for iteration in model._predictors:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            if nodes["is_categorical"].any():
                raise NotImplementedError("boosting that splits by category")
            parts = [np.asarray(nodes[name]) for name in ("feature_idx", "num_threshold")]
            ends = [nodes[name].astype("int64") for name in ("left", "right")]
            leaf = nodes["is_leaf"].astype(bool)
            made.append((target, (*parts, *ends, nodes["missing_go_to_left"], leaf, nodes["value"])))
    baseline = np.ravel(model._baseline_prediction)
    return made, len(baseline), baseline


def _ensemble(trees: list[tuple[int, Tree]], targets: int, _start: Any) -> dict[str, Any]:
    """Attributes of the operator TreeEnsemble of ai.onnx.ml 5, which counts leaves apart from branches."""
    import numpy as np
    from onnx import numpy_helper

    names = ("feature", "split", "missing", "true", "false", "true_leaf", "false_leaf", "weight", "target")
    parts: dict[str, list[Any]] = {name: [] for name in names}
    roots, branches, leaves = [], 0, 0
    for target, (feature, threshold, left, right, missing, leaf, value) in trees:
        inner, ends = np.flatnonzero(~leaf), np.flatnonzero(leaf)
        number = np.zeros(len(leaf), dtype="int64")
        if len(inner) == 0:  # one leaf: both ways of a branch lead to it
            inner, left, right, number[0] = np.array([0]), np.array([0]), np.array([0]), leaves
            feature, threshold, missing = np.array([0]), np.array([0.0]), np.array([0])
        else:
            number[inner] = branches + np.arange(len(inner))
            number[ends] = leaves + np.arange(len(ends))
        parts["feature"].append(feature[inner])
        parts["split"].append(threshold[inner])
        parts["missing"].append(missing[inner])
        for name, child in (("true", left), ("false", right)):
            parts[name].append(number[child[inner]])
            parts[f"{name}_leaf"].append(leaf[child[inner]])
        parts["weight"].append(value[ends])
        parts["target"].append(np.full(len(ends), target))
        roots.append(branches)
        branches, leaves = branches + len(inner), leaves + len(ends)
    whole = {name: np.concatenate(each) for name, each in parts.items()}
    listed = {name: whole[name].astype("int64").tolist() for name in names if name not in ("split", "weight")}
    return {
        "n_targets": targets,
        "aggregate_function": 1,
        "post_transform": 0,
        "tree_roots": roots,
        "nodes_featureids": listed["feature"],
        "nodes_splits": numpy_helper.from_array(whole["split"].astype("float64")),
        "nodes_modes": numpy_helper.from_array(np.full(branches, _BRANCH_LEQ, dtype="uint8")),
        "nodes_missing_value_tracks_true": listed["missing"],
        "nodes_truenodeids": listed["true"],
        "nodes_falsenodeids": listed["false"],
        "nodes_trueleafs": listed["true_leaf"],
        "nodes_falseleafs": listed["false_leaf"],
        "leaf_targetids": listed["target"],
        "leaf_weights": numpy_helper.from_array(whole["weight"].astype("float64")),
    }
