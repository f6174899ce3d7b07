/* What the files of the config share: schema -> override -> bind -> rules. */
#ifndef ATTAR_EXPERIMENTS_CONFIG_PARTS_H
#define ATTAR_EXPERIMENTS_CONFIG_PARTS_H

#include "experiments/config.h"
#include "experiments/yaml.h"

extern const char config_stages_doc[];

/* A value that names no stage: start with fresh weights. */
#define CONFIG_SCRATCH "scratch"

/* Puts override number k ("key.sub=value") into the tree. */
void config_override(struct yaml *root, const char *text, int k, struct pool *pool,
                     struct mistakes *bad);

/* A map of the config, and what may stand in it. */
struct config_map {
    const char *path;                  /* what messages call it; empty: the config itself   */
    const struct field *const *tables; /* NULL at the end                                   */
    const struct yaml *stages;         /* the config's stages, whose names overrides use    */
};

/* Reports a key that is none of the map's: what it is called here, if it is a slip or somebody
   else's word (see config_alias.def), where it belongs, or what there is. */
void config_unknown(struct mistakes *bad, struct place at, const struct config_map *m,
                    const char *key);

/* Row i of config_alias.def: others' name, and ours; NULL at the end. */
const char *config_alias(int i, const char **ours);

/* Fills c with defaults and what the tree holds; stage_nodes [c->n_stages] receives each stage's
   map (in `scratch`). False if a stage could not be made out at all: its name is then unknown. */
bool config_bind(struct config *c, struct yaml *root, struct yaml ***stage_nodes,
                 struct pool *scratch, struct mistakes *bad);

/* What fields cannot say about themselves; resolves references and dependent defaults. */
void config_rules(struct config *c, const struct yaml *root, struct yaml *const *stage_nodes,
                  bool all_stages_known, struct mistakes *bad);
void config_rules_data(struct config *c, const struct yaml *node, struct mistakes *bad);
void config_rules_model(struct config *c, const struct yaml *node, struct mistakes *bad);
void config_rules_train(const struct config *c, struct config_stage *s, const struct yaml *node,
                        struct mistakes *bad);
void config_rules_merge(const struct config *c, const struct config_stage *s,
                        const struct yaml *node, struct mistakes *bad);
void config_rules_params(const struct config_stage *s, const struct yaml *node,
                         struct mistakes *bad);

/* A rule may look at `key` of the map: it was given or has a default, and no mistake was found. */
bool config_sound(const struct yaml *map, const char *key);

/* Where to report something about `key`: its value, or the map if it was not given. */
struct place config_place(const struct yaml *map, const char *key);

/* Prints ": the nearest are 96 and 128", the multiples of `unit` around v that f takes; nothing if
   there are none. v is no such multiple. */
void config_nearest(int64_t v, int64_t unit, const struct field *f, struct buf *out);

/* Paths that overrides gave are meant from the current folder: makes them whole where the config's
 * is another. */
void config_paths(struct config *c, const struct yaml *root, struct yaml *const *stage_nodes,
                  struct mistakes *bad);

/* Reports at the key that it has no effect, if it was given. */
void config_useless(const struct yaml *map, const char *key, const char *why, struct mistakes *bad);

#endif
