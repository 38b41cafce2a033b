"""
First pipeline
==============

From impressions to click probabilities in one scikit-learn pipeline, and what borrowing changes for
the users who have hardly any history.
"""

# %%
# Data
# ----
# :func:`~skmars.datasets.make_multimodal_ctr` plants look-alike groups of users in a catalogue with
# texts and pictures. One row is one impression: a user, the item shown, and what the user clicked
# before.
from sklearn.metrics import RocCurveDisplay, log_loss

from skmars import DINClassifier, leave_last_out, make_mars, make_multimodal_ctr

X, y = make_multimodal_ctr(n_users=500, n_items=1000, random_state=0)
train, valid, test = leave_last_out(X)
X

# %%
# The table shows titles; nothing is copied for it, and nothing is padded.
#
# Four steps
# ----------
# Each step adds to what it is given: the encoder gives the items vectors, the aligner brings text,
# picture and id into one space, the augmenter lets low-active users borrow, and DIN predicts.
# :func:`~skmars.pipeline.make_mars` makes the pipeline; parameters are named by step.
mars = make_mars(
    align__n_components=64,
    align__id_dim=32,
    align__max_iter=5,
    augment__theta=0.3,
    augment__n_neighbors=5,
    random_state=0,
)
mars.fit(X[train], y[train])

# %%
# The base model is the last step by itself.
base = DINClassifier(random_state=0).fit(X[train], y[train])

# %%
# Who gains?
# ----------
# We score each user's last impression, which no fit has seen, and look at the users whom the
# augmenter calls low-active. One run on a few hundred rows says little: DeLong's test tells how
# little.
import matplotlib.pyplot as plt
import numpy as np

from skmars.metrics import delong_test

longest = np.zeros(len(X.users))
np.maximum.at(longest, X.user[train], X.history.length[train])
low = test[longest[X.user[test]] <= mars["augment"].low_threshold_]

p_base, p_mars = (model.predict_proba(X[low])[:, 1] for model in (base, mars))
result = delong_test(y[low], p_mars, p_base)
low_end, high_end = result.confidence_interval
print(f"{len(low)} rows of low-active users")
print(f"base DIN: AUC {result.base_score:.3f}, log loss {log_loss(y[low], p_base):.3f}")
print(f"MARS:     AUC {result.score:.3f}, log loss {log_loss(y[low], p_mars):.3f}")
print(f"difference {result.difference:+.3f}, 95 % interval {low_end:+.3f} to {high_end:+.3f}")

# %%
# Any scikit-learn display takes the predictions.
fig, ax = plt.subplots(figsize=(5, 5))
RocCurveDisplay.from_predictions(
    y[low], p_base, name="base DIN", ax=ax, curve_kwargs={"color": "#D55E00", "linestyle": "--"}
)
RocCurveDisplay.from_predictions(
    y[low], p_mars, name="MARS", ax=ax, plot_chance_level=True, curve_kwargs={"color": "#0072B2"}
)
ax.set_title("Last impressions of low-active users")
plt.show()

# %%
# Where next: :ref:`sphx_glr_examples_plot_03_borrowed.py` shows what one user borrowed, and
# :ref:`sphx_glr_examples_plot_02_grid_search.py` chooses the parameters.
