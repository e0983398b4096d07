"""What `buckler init` writes: every setting, with what it means and its default."""

TEMPLATE = """\
# buckler.toml: what `buckler run` needs to know. Every key not set has the value shown.

output = "out"                       # where everything is written

[model]
factory = "mymodel:build"            # module:function that returns an nn.Module: logits, no softmax
file = ""                            # or a file that is assessed as it is: .onnx, .keras, XGBoost's
                                     # .json or .ubj, LightGBM's .txt
url = ""                             # or an endpoint: http://HOST/v2/models/NAME, or http://HOST of
                                     # a Buckler gateway; its key, if any, comes from the variable
                                     # BUCKLER_ENDPOINT_AUTHORIZATION. Name one of the three.
# weights = "weights.safetensors"    # loaded into it (.safetensors, or a .pt of plain tensors)
train = false                        # true: the factory's net is untrained, train it first
epochs = 40                          # of that training

[data]
source = "data.npz"                  # "digits", an .npz with x and y (or x_train, y_train, x_test,
                                     # y_test), or a folder with one folder of images a class.
                                     # Rows the model was trained on belong in x_train.
box = [0.0, 1.0]                     # the allowed range of every input value
levels = 0                           # of images of 9 to 16 bits: 4096 for 12 bits; 0: all 16
class_names = []                     # in the order of the logits; default "0", "1", ...
seed = 0                             # of the splits

[threat]
norm = "linf"                        # or "l2", "l1"
eps = 0.1                            # radius in input units; for 8-bit pixels in [0, 1] think k/255
curve = [0.01, 0.03, 0.1, 0.3]       # radii of the success curve
one_pixel = true                     # images: also try a single pixel

[assess]
rows = 400                           # drawn at random from the test split (all, if it has fewer)
steps = 50                           # of each gradient attack
restarts = 2
queries = 500                        # of each attack by scores alone
article = true                       # images: compare with the median + JPEG + rotation guard too
seed = 0

[harden]
members = ["pgd"]                    # recipes: pgd, trades, fast, certified, mixed, noise,
                                     # occluded; and standard: your model as it is
ensemble = 3                         # of each hardened member, from different seeds
epochs = 50
awp = 0.0                            # adversarial weight perturbation; 0.005 for long trainings
# eps = 0.15                         # radius trained against; default 1.5 x threat.eps

[guard]
views = []                           # transforms the detector "views" compares the input with:
                                     # ["median2", "jpeg75"]
path = []                            # transforms before the members: measure before you transform
detectors = ["confidence"]           # and margin, energy, views, members, mahalanobis, vim, forest:
                                     # each costs a share of the reviews, so add what pays;
                                     # "auto" measures under attack which do
review_rate = 0.02                   # target share of clean inputs sent to people
by_class = false                     # a threshold for each predicted class with enough rows
# cost = { review = 1.0, wrong = 50.0, attack_share = 0.01 }   # sets the review rate instead

[answer]                             # what the gateway answers by
mode = "plain"                       # the members' mean; "smoothed": their vote under noise, and a
                                     # verdict carries a radius (members = ["noise"]); "masked" or
                                     # "abstaining": through masks, against one patch
                                     # (members = ["occluded"])
sigma = 0.25                         # smoothed: the noise, input units
radii = [0.25]                       # L2 radii an answer is certified at: the largest that holds
n = 10000                            # draws an answer takes at most: a clear one takes dozens
n0 = 64                              # draws that guess the class, of each answer
alpha = 0.001                        # probability that a radius is wrong, of each answer
patch = [2, 2]                       # masked, abstaining: height and width in pixels
per_side = 6                         # masks along each side: more are smaller, and cost more
fill = 0.5                           # what a mask shows

[certify]                            # of members alone, where mode is "plain"
sigma = 0.25                         # noise of randomized smoothing, input units
n = 1000                             # draws a row
n0 = 100                             # draws that guess the class
alpha = 0.001                        # probability that a certificate is wrong
rows = 50

[policy]                             # what `buckler check` rules on, by each interval's bad end
accuracy_ratio = 0.95                # (accepted and right) / the original's accuracy, at least
review_rate = 0.10                   # of clean inputs, at most
added_latency_ms = 100.0             # at p95, under
success = 0.15                       # accepted and wrong under the adaptive suite, under
battery = "warn"                     # or "pass": the worst verdict on the evaluation that passes
regression = 0.02                    # share of rows lost to the previous bundle, at most
# previous = "live/bundle"           # that bundle; or buckler check --previous
# clean_accuracy = 0.95              # right / all, at least
# certified_accuracy = 0.5           # right and certified / all, at least,
# certified_radius = 0.25            # within this L2 radius
# class_accuracy = 0.8               # accepted and right, of each class, at least
# class_robust = 0.5                 # right and unbroken under attack, of each class, at least

[redteam]                            # `buckler redteam`: attacks from outside
hosts = []                           # that may be attacked, beside loopback: ["model.example.com"]
suite = "blackbox"                   # a named set of attacks
rows = 50                            # drawn at random from the test split
queries = 20000                      # in all, at most
per_row = 0                          # of one attack on one row; 0: an equal share
rate = 100.0                         # rows a second to an endpoint, at most; 0: no limit
seed = 0

[retrain]                            # `buckler retrain`: which reviewed rows enter training
agree = 2                            # different reviewers who named the class,
of = 3                               # of so many who answered, at most
client_share = 0.05                  # of the rows let in, from one client, at most: under twenty
                                     # clients, nothing enters
class_share = 0.10                   # new rows / training rows of their class, at most
copies = 1                           # how often each new row stands in the training set
golden = 1000                        # rows of the test split that no retrain may get worse at
confirmed = 20                       # attacks confirmed by reviewers that owe a retrain
wrong = 0.02                         # wrong / reviewed ACCEPTED rows that owes one, at the low end
seed = 0
"""
